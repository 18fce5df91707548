# SPDX-License-Identifier: Apache-2.0
"""The all-MLP head of SegFormer: every level to one width, then joined at the finest size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from network.heads.classes import DecodeHead
from network.ops.conv_block import ConvBlock
from network.ops.init import init_transformer
from network.ops.resize import resize, size_of


class LevelProjection(nn.Module):
    """The linear layer of one level, under the name `proj` of published keys.

    `bn` is a batch norm with ReLU behind it in the variant that mmsegmentation 1.x trains.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, outputs)
        self.bn: nn.Module | None = None

    def take_norm(self, wanted: bool) -> None:
        """With a batch norm or without."""
        if wanted and self.bn is None:
            norm = nn.BatchNorm2d(self.proj.out_features).to(self.proj.weight)
            self.bn = norm.train(self.training)
        elif not wanted:
            self.bn = None


class SegFormerHead(DecodeHead):
    """Four maps of a trunk to class scores at the size of the first.

    The 1x1 fusion of the joined levels is linear, as are the projection before it and the
    resize between them; so each level goes through both in one product at its own size, and
    the results are resized and added. That is the published sum in another order, without the
    joined map of four times `width` channels.

    Source: Xie et al., "SegFormer" (2021), section 3.2, equation 4.
    """

    dead_entries = ("conv_seg.weight", "conv_seg.bias")  # never used

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        *,
        width: int = 256,
        dropout: float = 0.1,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.channels, self.align_corners = tuple(channels), align_corners
        self.levels = len(channels)
        self.dropout = nn.Dropout2d(dropout)
        self.build(width, num_classes)

    def build(self, width: int, num_classes: int) -> None:
        """Fresh layers of `width` channels."""
        self.feature_channels = width
        for level, inputs in enumerate(self.channels, start=1):
            self.add_module(f"linear_c{level}", LevelProjection(inputs, width))
        init_transformer(self)
        self.linear_fuse = ConvBlock(self.levels * width, width, 1)
        self.linear_pred = nn.Conv2d(width, num_classes, 1)

    def take_width(self, state: Mapping[str, Tensor]) -> bool:
        """Become as wide as the head in a file; whether that changed anything.

        `state` has the names of this head. mmsegmentation 1.x makes all heads 256 wide, the
        publication those of B2 to B5 768.
        """
        fusion = state.get("linear_fuse.conv.weight")
        if fusion is None or fusion.ndim != 4 or len(fusion) == self.feature_channels:
            return False
        if fusion.shape[1] != self.levels * len(fusion):
            return False
        place = self.linear_pred.weight
        self.build(len(fusion), self.linear_pred.out_channels)
        self.to(place).train(self.training)
        return True

    def fit_levels(self, state: Mapping[str, Tensor]) -> None:
        """Take the form of the projections of a file, with or without a batch norm."""
        for level in range(1, self.levels + 1):
            part = self.get_submodule(f"linear_c{level}")
            assert isinstance(part, LevelProjection)
            if f"linear_c{level}.proj.weight" in state:
                part.take_norm(f"linear_c{level}.bn.weight" in state)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (B, K, h, w) and the features before the classifier (B, width, h, w)."""
        size = size_of(features[0])
        # The published order of the joined levels is from the coarsest to the finest.
        fusions = self.linear_fuse.conv.weight.flatten(1).chunk(self.levels, dim=1)[::-1]
        joint: Tensor | None = None
        for level, (feature, fusion) in enumerate(zip(features, fusions, strict=True), start=1):
            projection = self.get_submodule(f"linear_c{level}")
            assert isinstance(projection, LevelProjection)
            tokens = _fused(projection, fusion, feature.permute(0, 2, 3, 1))
            part = resize(tokens.permute(0, 3, 1, 2), size, self.align_corners)
            joint = part if joint is None else joint + part
        feats = self.linear_fuse.relu(self.linear_fuse.bn(joint))
        return self.linear_pred(self.dropout(feats)), feats


def _fused(level: LevelProjection, fusion: Tensor, tokens: Tensor) -> Tensor:
    """Tokens (B, H, W, C) through the projection of a level and its part of the fusion."""
    proj = level.proj
    if level.bn is None:
        return F.linear(tokens, fusion @ proj.weight, fusion @ proj.bias)
    normed = level.bn(proj(tokens).permute(0, 3, 1, 2))
    return F.linear(F.relu(normed).permute(0, 2, 3, 1), fusion)
