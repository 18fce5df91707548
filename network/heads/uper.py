# SPDX-License-Identifier: Apache-2.0
"""The UPerNet head: pyramid pooling on the deepest map, then a feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from network.heads.classes import ClassScores
from network.ops.bins import BinMeans
from network.ops.conv_block import ConvBlock
from network.ops.joined_conv import Unjoined, join
from network.ops.resize import concat_resized, resize, size_of

POOL_SIZES = (1, 2, 3, 6)


class UPerHead(ClassScores):
    """Four maps of a trunk to class scores at the size of the first.

    Source: Xiao et al., "Unified Perceptual Parsing for Scene Understanding" (2018), section 3.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        *,
        width: int = 512,
        align_corners: bool = False,
    ) -> None:
        super().__init__(width, num_classes)
        *inner, deepest = channels
        self.align_corners = align_corners
        self.psp_modules = nn.ModuleList(
            nn.Sequential(BinMeans(size), ConvBlock(deepest, width, 1)) for size in POOL_SIZES
        )
        self.bottleneck = ConvBlock(deepest + len(POOL_SIZES) * width, width, 3)
        self.lateral_convs = nn.ModuleList(ConvBlock(each, width, 1) for each in inner)
        self.fpn_convs = nn.ModuleList(ConvBlock(width, width, 3) for _ in inner)
        self.fpn_bottleneck = ConvBlock([width] * len(channels), width, 3)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (B, K, h, w) and the features before the classifier (B, width, h, w)."""
        feats = self.fpn_bottleneck(self._pyramid(features))
        return self.scores(feats), feats

    def _pyramid(self, features: Sequence[Tensor]) -> Tensor | Unjoined:
        """All levels, each joined with the ones below it: (B, 4 * width, h, w)."""
        *inner, deepest = features
        pooled = [pool(deepest) for pool in self.psp_modules]
        joint = self.bottleneck(concat_resized([deepest, *pooled], self.align_corners))
        levels = [joint]
        for lateral, feature in zip(reversed(self.lateral_convs), reversed(inner), strict=True):
            joint = lateral(feature) + resize(joint, size_of(feature), self.align_corners)
            levels.insert(0, joint)
        smooth = [fpn(x) for fpn, x in zip(self.fpn_convs, levels[:-1], strict=True)]
        return join([*smooth, levels[-1]], self.align_corners)
