# SPDX-License-Identifier: Apache-2.0
"""The light segmentation head of HRViT: all maps to one width, joined at stride 4."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from network.heads.classes import ClassScores
from network.ops.conv import conv
from network.ops.conv_block import ConvBlock
from network.ops.resize import resize, size_of


class HRViTHead(ClassScores):
    """Four maps of a trunk to class scores at the size of the first.

    In the paper every map goes through a 1x1 convolution to `width` channels and is resized; the
    four are concatenated and joined by a 1x1 convolution, batch norm and ReLU. Nothing nonlinear
    stands between the two convolutions, so their product is applied to each map at its own size
    and the results are resized and added: less than a tenth of the sums, and no concatenation.

    Source: Gu et al., "Multi-Scale High-Resolution Vision Transformer" (2021), section 4.2, after
    Xie et al., "SegFormer" (2021), section 3.2.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        *,
        width: int = 256,
        align_corners: bool = False,
    ) -> None:
        super().__init__(width, num_classes)
        self.align_corners = align_corners
        self.convs = nn.ModuleList(
            nn.Sequential(OrderedDict(conv=conv(inputs, width, 1, bias=True)))
            for inputs in channels
        )
        self.fusion_conv = ConvBlock(len(channels) * width, width, 1)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (B, K, h, w) and the features before the classifier (B, width, h, w)."""
        size = size_of(features[0])
        kernels, bias = self._products()
        total = F.conv2d(features[0], kernels[0], bias)
        for feature, kernel in zip(features[1:], kernels[1:], strict=True):
            total += resize(F.conv2d(feature, kernel), size, self.align_corners)
        _, norm, relu = self.fusion_conv
        feats = relu(norm(total))
        return self.scores(feats), feats

    def _products(self) -> tuple[list[Tensor], Tensor]:
        """Of both layers: a kernel (width, C_i, 1, 1) for each map, and the bias (width,)."""
        parts = [block.get_submodule("conv") for block in self.convs]
        joint = self.fusion_conv.get_submodule("conv").get_parameter("weight")[..., 0, 0]
        slices = joint.chunk(len(parts), dim=1)
        kernels = [
            (part @ layer.get_parameter("weight")[..., 0, 0])[..., None, None]
            for part, layer in zip(slices, parts, strict=True)
        ]
        return kernels, joint @ torch.cat([layer.get_parameter("bias") for layer in parts])

    def inference_form(self) -> nn.Module:
        """The same with the products stored and the batch norm inside them."""
        return JoinedHead(self)

    def published_macs(self, features: Sequence[Tensor]) -> int:
        """Multiply-adds of the paper's form, with the concatenation at stride 4."""
        batch, _, height, width = features[0].shape
        pixels, outputs = batch * height * width, self.feature_channels
        alone = sum((x.numel() + x.numel() // x.shape[1]) * outputs for x in features)
        joint = pixels * outputs * (len(features) * outputs + 2)
        return alone + joint + pixels * (outputs + 1) * self.conv_seg.out_channels


class JoinedHead(nn.Module):
    """`head` in eval mode as one convolution a map, ReLU and the classifier."""

    def __init__(self, head: HRViTHead) -> None:
        super().__init__()
        self.feature_channels, self.align_corners = head.feature_channels, head.align_corners
        _, norm, _ = head.fusion_conv
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        kernels, bias = head._products()
        layers = []
        for index, kernel in enumerate(kernels):
            layer = conv(kernel.shape[1], kernel.shape[0], 1, bias=index == 0)
            weights = fuse_conv_bn_weights(
                kernel, bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            layer.weight = weights[0]
            if index == 0:
                layer.bias = weights[1]
            layers.append(layer)
        self.convs, self.conv_seg = nn.ModuleList(layers), head.conv_seg

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        size = size_of(features[0])
        total = self.convs[0](features[0])
        for feature, layer in zip(features[1:], self.convs[1:], strict=True):
            total += resize(layer(feature), size, self.align_corners)
        feats = F.relu(total, inplace=True)
        return self.conv_seg(feats), feats
