# SPDX-License-Identifier: Apache-2.0
"""The all-MLP head of SegFormer: every level to one width, then joined at the finest size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from network.ops.conv_block import ConvBlock
from network.ops.resize import resize, size_of
from network.ops.start import start_transformer


class LevelProjection(nn.Module):
    """The linear layer of one level, under the name `proj` of published keys."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, outputs)


class SegFormerHead(nn.Module):
    """Four maps of a trunk to class scores at the size of the first.

    The 1x1 fusion of the joined levels is linear, as are the projection before it and the
    resize between them; so each level goes through both in one product at its own size, and
    the results are resized and added. That is the published sum in another order, without the
    joined map of four times `width` channels.

    Source: Xie et al., "SegFormer" (2021), section 3.2, equation 4.
    """

    dead_entries: ClassVar[tuple[str, ...]] = ("conv_seg.weight", "conv_seg.bias")  # never used

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
        self.feature_channels, self.align_corners = width, align_corners
        self.levels = len(channels)
        for level, inputs in enumerate(channels, start=1):
            self.add_module(f"linear_c{level}", LevelProjection(inputs, width))
        start_transformer(self)
        self.linear_fuse = ConvBlock(self.levels * width, width, 1)
        self.dropout = nn.Dropout2d(dropout)
        self.linear_pred = nn.Conv2d(width, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (B, K, h, w) and the features before the classifier (B, width, h, w)."""
        size = size_of(features[0])
        # The published order of the joined levels is from the coarsest to the finest.
        fusions = self.linear_fuse.conv.weight.flatten(1).chunk(self.levels, dim=1)[::-1]
        joint: Tensor | None = None
        for level, (feature, fusion) in enumerate(zip(features, fusions, strict=True), start=1):
            proj = self.get_submodule(f"linear_c{level}.proj")
            assert isinstance(proj, nn.Linear)
            tokens = F.linear(feature.permute(0, 2, 3, 1), fusion @ proj.weight, fusion @ proj.bias)
            part = resize(tokens.permute(0, 3, 1, 2), size, self.align_corners)
            joint = part if joint is None else joint + part
        feats = self.linear_fuse.relu(self.linear_fuse.bn(joint))
        return self.linear_pred(self.dropout(feats)), feats
