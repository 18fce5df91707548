# SPDX-License-Identifier: Apache-2.0
"""The last layer of the encoder-decoder heads: dropout of whole channels, then class scores."""

from __future__ import annotations

from torch import Tensor, nn

from network.ops.part import Part

CLASS_INIT_STD = 0.01


class DecodeHead(Part):
    """Maps of a trunk -> logits (B, K, h, w) and the features under them.

    `feature_channels` of the features; heads that only supervise give logits alone.
    """

    feature_channels: int


class ClassScores(DecodeHead):
    """A head's last layers, `dropout` and `conv_seg`; heads inherit them for their key names."""

    def __init__(self, channels: int, num_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.feature_channels = channels
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)
        nn.init.normal_(self.conv_seg.weight, std=CLASS_INIT_STD)
        assert self.conv_seg.bias is not None
        nn.init.zeros_(self.conv_seg.bias)

    def scores(self, feats: Tensor) -> Tensor:
        """(B, C, h, w) -> logits (B, K, h, w)."""
        logits: Tensor = self.conv_seg(self.dropout(feats))
        return logits
