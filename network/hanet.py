# SPDX-License-Identifier: Apache-2.0
"""DeepLabV3+ with height-driven attention on the trunks of torchvision.

Without any block (`hanet` 0,0,0,0,0) the same names are the plain DeepLabV3+ that HANet is
measured against. `network.deepv3.NAME`, the published spelling, means the same.

Sources: Choi, Kim, Choo, "Cars Can't Fly up in the Sky: Improving Urban-Scene Segmentation via
Height-driven Attention Networks" (2020); Chen et al., "Encoder-Decoder with Atrous Separable
Convolution" (2018).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.arch import Arch
from network.backbones.five_stages import FiveStages
from network.backbones.mobile_stages import mnasnet, mobilenet_v2, shufflenet_v2
from network.backbones.resnet_stages import KINDS, ResNetStages
from network.heads.aspp import ASPP, RATES
from network.heads.hanet import HANET_OPTIONS
from network.height_gates import HeightGated
from network.ops.conv import conv, conv_bn_relu
from network.ops.init import init_kaiming
from network.ops.resize import Size, resize, size_of
from network.ops.rows import PAD, scaled_rows
from network.outputs import AUX, Maps, single_scale_outputs
from settings.model import ModelConfig

OPTIONS = HANET_OPTIONS | {"aux_loss", "fixed_aspp_pool", "grad_ckpt", "pretrained"}
FINE, WIDTH, AUX_WIDTH = 48, 256, 512


class HANetDeepLab(HeightGated):
    """`backbone`, ASPP and a decoder on its low map, with up to five height gates.

    Every resize aligns corners, as published; the gates do not.
    """

    backbone: FiveStages

    def __init__(
        self, backbone: FiveStages, num_classes: int, stride: int, model: ModelConfig
    ) -> None:
        super().__init__(backbone, feature_channels=FINE + WIDTH, align_corners=True)
        low, third, final = backbone.channels
        self.aspp = ASPP(
            final, rates=RATES[stride], fixed_pool=model.fixed_aspp_pool, align_corners=True
        )
        context = self.aspp.out_channels
        self.bot_fine = conv_bn_relu(low, FINE, 1)
        self.bot_aspp = conv_bn_relu(context, WIDTH, 1)
        self.final1 = nn.Sequential(
            *conv_bn_relu(FINE + WIDTH, WIDTH, 3), *conv_bn_relu(WIDTH, WIDTH, 3)
        )
        self.final2 = nn.Sequential(conv(WIDTH, num_classes, 1, bias=True))
        self.dsn = _auxiliary(third, num_classes) if model.aux_loss else None
        self.auxiliary_parts = ("dsn",) if model.aux_loss else ()
        init_kaiming(*(part for part in self.children() if part is not backbone))
        self.add_blocks(
            model,
            [
                (third, final),
                (final, context),
                (context, WIDTH),
                (self.feature_channels, WIDTH),
                (WIDTH, num_classes),
            ],
        )

    def forward(
        self, images: Tensor, rows: Tensor | None = None, return_all: bool = False
    ) -> dict[str, Tensor]:
        """`pred`; in training `aux` at the size of the third map, where its labels are compared."""
        maps = self.maps(images, rows, features=False)
        outputs = single_scale_outputs(
            dataclasses.replace(maps, aux=None), images, training=self.training, align_corners=True
        )
        return outputs if maps.aux is None else outputs | {AUX: maps.aux}

    def one_pass(
        self, images: Tensor, rows: Tensor | None = None, *, features: bool = True
    ) -> Maps:
        """Maps at the stride of the low map; `feats` (B, 304, h, w).

        Images below the smallest size of the trunk are padded, their maps come at image size.
        """
        size = size_of(images)
        below, right = (max(self.backbone.smallest - side, 0) for side in size)
        if not below and not right:
            return self._maps(images, rows)
        padded = F.pad(images, (0, right, 0, below))
        rows = scaled_rows(rows, size[0])
        rows = None if rows is None else F.pad(rows, (0, below), value=PAD)
        return _cut(self._maps(padded, rows), size_of(padded), size)

    def _maps(self, images: Tensor, rows: Tensor | None) -> Maps:
        low, third, final = self.backbone(images)
        aux = self.dsn(third) if self.training and self.dsn is not None else None
        final = self.gate(0, third, final, rows)
        context = self.gate(1, final, self.aspp(final), rows)
        narrow = self.gate(2, context, self.bot_aspp(context), rows)
        feats = torch.cat([self.bot_fine(low), resize(narrow, size_of(low), True)], dim=1)
        decoded = self.gate(3, feats, self.final1(feats), rows)
        logits, row_logits = self.gate_scores(decoded, self.final2(decoded), rows)
        return Maps(logits=logits, feats=feats, aux=aux, row_logits=row_logits)


def _auxiliary(channels: int, num_classes: int) -> nn.Sequential:
    """Scores from the third map, in training only; keys 0, 1, 4."""
    return nn.Sequential(
        conv(channels, AUX_WIDTH, 3, bias=True),
        nn.BatchNorm2d(AUX_WIDTH),
        nn.ReLU(inplace=True),
        nn.Dropout2d(0.1),
        conv(AUX_WIDTH, num_classes, 1, bias=True),
    )


def _cut(maps: Maps, padded: Size, size: Size) -> Maps:
    """The maps of a padded image for the part of `size` that holds the image."""

    def shown(x: Tensor) -> Tensor:
        return resize(x, padded, True)[..., : size[0], : size[1]]

    return dataclasses.replace(
        maps,
        logits=shown(maps.logits),
        feats=shown(maps.feats),
        aux=None if maps.aux is None else shown(maps.aux),
    )


Trunk = Callable[[ModelConfig], FiveStages]


def _hanet(about: str, trunk: Trunk, stride: int) -> Arch:
    def build(num_classes: int, model: ModelConfig) -> HANetDeepLab:
        return HANetDeepLab(trunk(model), num_classes, stride, model)

    return Arch(f"{about} at stride {stride}", build, OPTIONS)


def _resnet(about: str, kind: str, stride: int) -> Arch:
    def trunk(model: ModelConfig) -> FiveStages:
        return ResNetStages(KINDS[kind], stride, grad_ckpt=model.grad_ckpt)

    return _hanet(about, trunk, stride)


def _mobilenet(stride: int) -> Arch:
    def trunk(model: ModelConfig) -> FiveStages:
        return mobilenet_v2(stride, grad_ckpt=model.grad_ckpt)

    return _hanet("MobileNetV2", trunk, stride)


def _shufflenet(stride: int) -> Arch:
    def trunk(model: ModelConfig) -> FiveStages:
        return shufflenet_v2(stride, grad_ckpt=model.grad_ckpt)

    return _hanet("ShuffleNetV2 x1.0", trunk, stride)


def _mnasnet(about: str, half: bool) -> Arch:
    def trunk(model: ModelConfig) -> FiveStages:
        return mnasnet(half, 16, grad_ckpt=model.grad_ckpt)

    return _hanet(about, trunk, 16)


RESNET_101 = "ResNet-101 with a stem of three convolutions"
ARCHS = {
    "DeepR50V3PlusD_HANet": _resnet("ResNet-50", "resnet-50", 16),
    "DeepR50V3PlusD_HANet_OS8": _resnet("ResNet-50", "resnet-50", 8),
    "DeepR101V3PlusD_HANet": _resnet(RESNET_101, "resnet-101", 16),
    "DeepR101V3PlusD_HANet_OS8": _resnet(RESNET_101, "resnet-101", 8),
    "DeepR152V3PlusD_HANet_OS8": _resnet("ResNet-152", "resnet-152", 8),
    "DeepResNext50V3PlusD_HANet": _resnet("ResNeXt-50 32x4d", "resnext-50", 16),
    "DeepResNext101V3PlusD_HANet": _resnet("ResNeXt-101 32x8d", "resnext-101", 16),
    "DeepResNext101V3PlusD_HANet_OS8": _resnet("ResNeXt-101 32x8d", "resnext-101", 8),
    "DeepResNext101V3PlusD_HANet_OS4": _resnet("ResNeXt-101 32x8d", "resnext-101", 4),
    "DeepWideResNet50V3PlusD_HANet": _resnet("Wide ResNet-50-2", "wide_resnet-50", 16),
    "DeepWideResNet50V3PlusD_HANet_OS8": _resnet("Wide ResNet-50-2", "wide_resnet-50", 8),
    "DeepWideResNet101V3PlusD_HANet": _resnet("Wide ResNet-101-2", "wide_resnet-101", 16),
    "DeepWideResNet101V3PlusD_HANet_OS8": _resnet("Wide ResNet-101-2", "wide_resnet-101", 8),
    "DeepMobileNetV3PlusD_HANet": _mobilenet(16),
    "DeepMobileNetV3PlusD_HANet_OS8": _mobilenet(8),
    "DeepShuffleNetV3PlusD_HANet": _shufflenet(16),
    "DeepShuffleNetV3PlusD_HANet_OS8": _shufflenet(8),
    "DeepShuffleNetV3PlusD_HANet_OS32": _shufflenet(32),
    "DeepMNASNet05V3PlusD_HANet": _mnasnet("MNASNet 0.5", half=True),
    "DeepMNASNet10V3PlusD_HANet": _mnasnet("MNASNet 1.0", half=False),
}
