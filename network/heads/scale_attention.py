# SPDX-License-Identifier: Apache-2.0
"""The head that says, per pixel, how much the prediction of a scale can be trusted.

Source: Tao, Sapra, Catanzaro, "Hierarchical Multi-Scale Attention for Semantic Segmentation"
(2020), section 3.
"""

from __future__ import annotations

from torch import Tensor, nn

from network.heads.segmentation import segmentation_head
from network.ops.conv import conv


class ScaleAttention(nn.Module):
    """Features (B, C, h, w) -> attention (B, outputs, h, w) in 0..1.

    `with_3x3=False` leaves out the second 3x3 convolution, `dropout` adds one of 0.5 before the
    last. `old_names` uses plain indices as keys and starts with attention 0.5 everywhere (early
    published weights).
    """

    def __init__(
        self,
        channels: int,
        width: int = 256,
        *,
        outputs: int = 1,
        with_3x3: bool = True,
        dropout: bool = False,
        old_names: bool = False,
    ) -> None:
        super().__init__()
        layers: list[tuple[str, nn.Module]] = [
            ("conv0", conv(channels, width, 3)),
            ("bn0", nn.BatchNorm2d(width)),
            ("re0", nn.ReLU(inplace=True)),
        ]
        if with_3x3:
            layers += [
                ("conv1", conv(width, width, 3)),
                ("bn1", nn.BatchNorm2d(width)),
                ("re1", nn.ReLU(inplace=True)),
            ]
        if dropout:
            layers.append(("drop", nn.Dropout(0.5)))
        last = conv(width, outputs, 1)
        layers += [("conv2", last), ("sig", nn.Sigmoid())]
        if old_names:
            layers = [(str(index), layer) for index, (_, layer) in enumerate(layers)]
        for name, layer in layers:
            self.add_module(name, layer)
        if old_names:
            # differs: the reference zeroes all weights, after which no gradient reaches any.
            nn.init.zeros_(last.weight)

    def forward(self, feats: Tensor) -> Tensor:
        for layer in self.children():
            feats = layer(feats)
        return feats


def sigmoid_head(channels: int, outputs: int, width: int = 256) -> nn.Sequential:
    """(B, channels, h, w) -> (B, outputs, h, w) in 0..1; keys 0, 1, 3, 4, 6."""
    return nn.Sequential(*segmentation_head(channels, outputs, width), nn.Sigmoid())
