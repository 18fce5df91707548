# SPDX-License-Identifier: Apache-2.0
"""The small convolutional head that supervises one inner map of a trunk."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from network.heads.classes import ClassScores
from network.ops.conv_block import ConvBlock


class FCNHead(ClassScores):
    """One 3x3 block and a classifier on the feature map number `index` of the trunk.

    Source: Long, Shelhamer, Darrell, "Fully Convolutional Networks" (2015).
    """

    def __init__(
        self, channels: int, num_classes: int, *, width: int = 256, index: int = 2
    ) -> None:
        super().__init__(width, num_classes)
        self.index = index
        self.convs = nn.Sequential(ConvBlock(channels, width, 3))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits (B, K, h, w) at the size of the map it reads."""
        return self.scores(self.convs(features[self.index]))
