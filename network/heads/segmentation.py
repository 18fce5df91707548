# SPDX-License-Identifier: Apache-2.0
"""The plain head from features to class scores, and how the DeepLab heads start."""

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


def start_kaiming(*modules: nn.Module) -> None:
    """Convolutions Kaiming normal by fan-in, their bias 0; batch norms 1 and 0."""
    for layer in (layer for module in modules for layer in module.modules()):
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
