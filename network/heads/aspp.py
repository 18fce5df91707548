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
from runtime.errors import UserError

# Dilations by the stride of the map: the same reach in pixels of the image.
RATES = {4: (24, 48, 72), 8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}
STRIDE_8_RATES = RATES[8]
FIXED_POOL = 105  # side of the windows of `fixed_pool`, map pixels


class ASPP(nn.Module):
    """(B, C, h, w) -> (B, 5 * bottleneck, h, w): pooled branch, 1x1, three dilated 3x3.

    In training a process with batch 1 gives the batch norm of the pooled branch one value per
    channel, which has no variance. That norm then uses its running statistics and leaves them
    alone; SyncBatchNorm sees the other processes and works as ever.

    `rates` are the dilations of the last three branches. With `fixed_pool` the pooled branch
    sees means over windows of `FIXED_POOL` pixels instead of the whole map, which must have room
    for one of them.
    """

    def __init__(
        self,
        channels: int,
        bottleneck: int = 256,
        *,
        rates: tuple[int, int, int] = STRIDE_8_RATES,
        fixed_pool: bool = False,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.align_corners, self.fixed_pool = align_corners, fixed_pool
        self.out_channels = 5 * bottleneck
        dilated = (
            nn.Sequential(
                conv(channels, bottleneck, 3, dilation=rate),
                nn.BatchNorm2d(bottleneck),
                nn.ReLU(inplace=True),
            )
            for rate in rates
        )
        self.features = nn.ModuleList([conv_bn_relu(channels, bottleneck, 1), *dilated])
        self.img_conv = conv_bn_relu(channels, bottleneck, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self._pooled(self._means(x))
        pooled = resize(pooled, size_of(x), self.align_corners)
        return torch.cat([pooled, *(branch(x) for branch in self.features)], dim=1)

    def _means(self, x: Tensor) -> Tensor:
        """(B, C, 1, 1), with `fixed_pool` one for each window."""
        if not self.fixed_pool:
            return F.adaptive_avg_pool2d(x, 1)
        if min(size_of(x)) < FIXED_POOL:
            height, width = size_of(x)
            raise UserError(
                f"fixed_aspp_pool averages {FIXED_POOL}x{FIXED_POOL} windows, the map has "
                f"{height}x{width}; larger images or crops, or leave it out"
            )
        return F.avg_pool2d(x, FIXED_POOL)

    def _pooled(self, means: Tensor) -> Tensor:
        """means (B, C, 1, 1) through `img_conv`."""
        norm = self.img_conv[1]
        if means.numel() > means.shape[1] or not (
            isinstance(norm, nn.BatchNorm2d) and norm.training
        ):
            return self.img_conv(means)
        # differs: the reference stops here with an error.
        statistics = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        return F.relu(F.batch_norm(self.img_conv[0](means), *statistics, eps=norm.eps))
