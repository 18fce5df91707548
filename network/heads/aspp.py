# SPDX-License-Identifier: Apache-2.0
"""Atrous spatial pyramid pooling: one map seen at several dilations and as a whole.

Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation" (2017),
section 3.3. Attribute names are those of the published weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from network.ops.conv import conv, conv_bn_relu
from network.ops.resize import resize, size_of

STRIDE_8_RATES = (12, 24, 36)


class ASPP(nn.Module):
    """(B, C, h, w) -> (B, 5 * bottleneck, h, w): pooled branch, 1x1, three dilated 3x3.

    In training a process with batch 1 gives the batch norm of the pooled branch one value per
    channel, which has no variance. That norm then uses its running statistics and leaves them
    alone; SyncBatchNorm sees the other processes and works as ever.
    """

    def __init__(
        self, channels: int, bottleneck: int = 256, *, align_corners: bool = False
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.out_channels = 5 * bottleneck
        dilated = (
            nn.Sequential(
                conv(channels, bottleneck, 3, dilation=rate),
                nn.BatchNorm2d(bottleneck),
                nn.ReLU(inplace=True),
            )
            for rate in STRIDE_8_RATES
        )
        self.features = nn.ModuleList([conv_bn_relu(channels, bottleneck, 1), *dilated])
        self.img_conv = conv_bn_relu(channels, bottleneck, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self._pooled(F.adaptive_avg_pool2d(x, 1))
        pooled = resize(pooled, size_of(x), self.align_corners)
        return torch.cat([pooled, *(branch(x) for branch in self.features)], dim=1)

    def _pooled(self, means: Tensor) -> Tensor:
        """means (B, C, 1, 1) through `img_conv`."""
        norm = self.img_conv[1]
        if len(means) > 1 or not (isinstance(norm, nn.BatchNorm2d) and norm.training):
            return self.img_conv(means)
        # differs: the reference stops here with an error.
        statistics = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        return F.relu(F.batch_norm(self.img_conv[0](means), *statistics, eps=norm.eps))
