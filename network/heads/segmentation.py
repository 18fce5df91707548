# SPDX-License-Identifier: Apache-2.0
"""The plain head from features to class scores."""

from __future__ import annotations

from torch import nn

from network.ops.conv import conv


def segmentation_head(channels: int, outputs: int, width: int = 256) -> nn.Sequential:
    """(B, channels, h, w) -> (B, outputs, h, w) by 3x3, 3x3, 1x1; keys 0, 1, 3, 4, 6."""
    return nn.Sequential(
        conv(channels, width, 3),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        conv(width, width, 3),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        conv(width, outputs, 1),
    )
