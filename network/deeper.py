# SPDX-License-Identifier: Apache-2.0
"""The Deeper decoder: from stride 8 to stride 2 in two steps, each with a map of the trunk."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from network.arch import Arch
from network.backbones.deeplab_trunks import make_trunk
from network.backbones.three_maps import ThreeMaps
from network.deepv3 import PLUS_OPTIONS
from network.heads.aspp import ASPP
from network.height_gates import HeightGated
from network.ops.conv import conv
from network.ops.resize import resize, size_of
from network.outputs import Maps
from settings.model import ModelConfig

STRIDES = (2, 4, 8)  # of the maps that the trunk must give
WIDTH, WIDTH_4, WIDTH_2 = 256, 64, 32


class ConvBnRelu(nn.Module):
    """5x5 convolution, batch norm, ReLU; keys `conv` and `bn`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.bn = conv(inputs, outputs, 5), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))


class Deeper(HeightGated):
    """Trunk with maps at strides 2, 4 and 8, ASPP, decoder: scores at stride 2.

    The steps go to the size of the trunk's next map, which is twice the last one where the
    sides are multiples of 8; so no size is refused.
    """

    backbone: ThreeMaps

    def __init__(
        self,
        backbone: ThreeMaps,
        num_classes: int,
        *,
        align_corners: bool = False,
        hanet: ModelConfig | None = None,
    ) -> None:
        super().__init__(backbone, feature_channels=WIDTH, align_corners=align_corners)
        if backbone.strides != STRIDES:
            raise ValueError(
                f"the Deeper decoder wants maps at strides {STRIDES}, "
                f"{type(backbone).__name__} gives {backbone.strides}"
            )
        channels = backbone.channels
        self.aspp = ASPP(channels[2], align_corners=align_corners)
        self.convs2 = conv(channels[0], WIDTH_2, 1)
        self.convs4 = conv(channels[1], WIDTH_4, 1)
        self.conv_up1 = conv(self.aspp.out_channels, WIDTH, 1)
        self.conv_up2 = ConvBnRelu(WIDTH + WIDTH_4, WIDTH)
        self.conv_up3 = ConvBnRelu(WIDTH + WIDTH_2, WIDTH)
        self.conv_up5 = conv(WIDTH, num_classes, 1)
        self.add_blocks(
            hanet or ModelConfig(),
            [
                (channels[1], channels[2]),
                (channels[2], self.aspp.out_channels),
                (self.aspp.out_channels, WIDTH),
                (WIDTH + WIDTH_2, WIDTH),
                (WIDTH, num_classes),
            ],
        )

    def one_pass(
        self, images: Tensor, rows: Tensor | None = None, *, features: bool = True
    ) -> Maps:
        """All maps; `feats` (B, 256, h, w) enter the last convolution."""
        at_2, at_4, final = self.backbone(images)
        final = self.gate(0, at_4, final, rows)
        context = self.gate(1, final, self.aspp(final), rows)
        narrow = self.gate(2, context, self.conv_up1(context), rows)
        x = self.conv_up2(self._joined(narrow, self.convs4(at_4)))
        joined = self._joined(x, self.convs2(at_2))
        feats = self.gate(3, joined, self.conv_up3(joined), rows)
        logits, row_logits = self.gate_scores(feats, self.conv_up5(feats), rows)
        return Maps(logits=logits, feats=feats, row_logits=row_logits)

    def _joined(self, x: Tensor, finer: Tensor) -> Tensor:
        return torch.cat([resize(x, size_of(finer), self.align_corners), finer], dim=1)


def deeper(num_classes: int, model: ModelConfig, trunk: str) -> Deeper:
    """The decoder on `trunk`, a name of `network/backbones/deeplab_trunks.py`."""
    backbone = make_trunk(trunk, grad_ckpt=model.grad_ckpt)
    return Deeper(backbone, num_classes, align_corners=model.align_corners, hanet=model)


def _deeper(about: str, trunk: str) -> Arch:
    return Arch(about, partial(deeper, trunk=trunk), PLUS_OPTIONS)


ARCHS = {
    "DeeperW38": _deeper("WiderResNet-38: 139,719,232 parameters with 19 classes", "wrn38"),
    "DeeperX71": _deeper("Xception-71: 57,240,368 parameters with 19 classes", "xception71"),
    "DeeperEffB4": _deeper(
        "EfficientNet-B4, a trunk that the reference names but lacks", "efficientnet-b4"
    ),
}
