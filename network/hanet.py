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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.backbones.mobile_stages import mnasnet, mobilenet_v2, shufflenet_v2
from network.backbones.resnet_stages import KINDS, ResNetStages
from network.backbones.stages import Stages
from network.heads.aspp import ASPP
from network.heads.hanet import HANET_OPTIONS
from network.heads.hanet_places import HANetPlaces
from network.heads.segmentation import start_kaiming
from network.ops.conv import conv, conv_bn_relu
from network.ops.resize import Size, resize, size_of
from network.ops.rows import PAD, scaled_rows
from network.outputs import AUX, Maps, run_pass, single_scale_outputs
from settings.model import ModelConfig

__all__ = [
    "DeepMNASNet05V3PlusD_HANet",
    "DeepMNASNet10V3PlusD_HANet",
    "DeepMobileNetV3PlusD_HANet",
    "DeepMobileNetV3PlusD_HANet_OS8",
    "DeepR101V3PlusD_HANet",
    "DeepR101V3PlusD_HANet_OS8",
    "DeepR152V3PlusD_HANet_OS8",
    "DeepR50V3PlusD_HANet",
    "DeepR50V3PlusD_HANet_OS8",
    "DeepResNext101V3PlusD_HANet",
    "DeepResNext101V3PlusD_HANet_OS4",
    "DeepResNext101V3PlusD_HANet_OS8",
    "DeepResNext50V3PlusD_HANet",
    "DeepShuffleNetV3PlusD_HANet",
    "DeepShuffleNetV3PlusD_HANet_OS32",
    "DeepShuffleNetV3PlusD_HANet_OS8",
    "DeepWideResNet101V3PlusD_HANet",
    "DeepWideResNet101V3PlusD_HANet_OS8",
    "DeepWideResNet50V3PlusD_HANet",
    "DeepWideResNet50V3PlusD_HANet_OS8",
]

OPTIONS = HANET_OPTIONS | {"aux_loss", "fixed_aspp_pool", "grad_ckpt", "pretrained"}
USED_OPTIONS = {name: OPTIONS for name in __all__}
PUBLISHED = ModelConfig()
RATES = {4: (24, 48, 72), 8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}  # of the ASPP by stride
FINE, WIDTH, AUX_WIDTH = 48, 256, 512


class HANetDeepLab(HANetPlaces):
    """`backbone`, ASPP and a decoder on its low map, with up to five height gates.

    Every resize aligns corners, as published; the gates do not.
    """

    feature_channels = FINE + WIDTH
    align_corners = True

    def __init__(self, backbone: Stages, num_classes: int, stride: int, model: ModelConfig) -> None:
        super().__init__()
        low, third, final = backbone.channels
        self.backbone = backbone
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
        start_kaiming(*(part for name, part in self.named_children() if name != "backbone"))
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
        maps = run_pass(self, images, rows, features=False)
        outputs = single_scale_outputs(
            dataclasses.replace(maps, aux=None), images, training=self.training, align_corners=True
        )
        return outputs if maps.aux is None else outputs | {AUX: maps.aux}

    def maps(self, images: Tensor, rows: Tensor | None = None, *, features: bool = True) -> Maps:
        """One pass at the stride of the low map; feats (B, 304, h, w).

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


def _resnet(num_classes: int, model: ModelConfig, kind: str, stride: int) -> HANetDeepLab:
    trunk = ResNetStages(KINDS[kind], stride, grad_ckpt=model.grad_ckpt)
    return HANetDeepLab(trunk, num_classes, stride, model)


def DeepR50V3PlusD_HANet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """ResNet-50 at stride 16."""
    return _resnet(num_classes, model, "resnet-50", 16)


def DeepR50V3PlusD_HANet_OS8(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """ResNet-50 at stride 8."""
    return _resnet(num_classes, model, "resnet-50", 8)


def DeepR101V3PlusD_HANet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """ResNet-101 with a stem of three convolutions at stride 16."""
    return _resnet(num_classes, model, "resnet-101", 16)


def DeepR101V3PlusD_HANet_OS8(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """ResNet-101 with a stem of three convolutions at stride 8."""
    return _resnet(num_classes, model, "resnet-101", 8)


def DeepR152V3PlusD_HANet_OS8(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """ResNet-152 at stride 8."""
    return _resnet(num_classes, model, "resnet-152", 8)


def DeepResNext50V3PlusD_HANet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """ResNeXt-50 32x4d at stride 16."""
    return _resnet(num_classes, model, "resnext-50", 16)


def DeepResNext101V3PlusD_HANet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """ResNeXt-101 32x8d at stride 16."""
    return _resnet(num_classes, model, "resnext-101", 16)


def DeepResNext101V3PlusD_HANet_OS8(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """ResNeXt-101 32x8d at stride 8."""
    return _resnet(num_classes, model, "resnext-101", 8)


def DeepResNext101V3PlusD_HANet_OS4(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """ResNeXt-101 32x8d at stride 4."""
    return _resnet(num_classes, model, "resnext-101", 4)


def DeepWideResNet50V3PlusD_HANet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """Wide ResNet-50-2 at stride 16."""
    return _resnet(num_classes, model, "wide_resnet-50", 16)


def DeepWideResNet50V3PlusD_HANet_OS8(
    num_classes: int, model: ModelConfig = PUBLISHED
) -> nn.Module:
    """Wide ResNet-50-2 at stride 8."""
    return _resnet(num_classes, model, "wide_resnet-50", 8)


def DeepWideResNet101V3PlusD_HANet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """Wide ResNet-101-2 at stride 16."""
    return _resnet(num_classes, model, "wide_resnet-101", 16)


def DeepWideResNet101V3PlusD_HANet_OS8(
    num_classes: int, model: ModelConfig = PUBLISHED
) -> nn.Module:
    """Wide ResNet-101-2 at stride 8."""
    return _resnet(num_classes, model, "wide_resnet-101", 8)


def DeepMobileNetV3PlusD_HANet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """MobileNetV2 at stride 16."""
    trunk = mobilenet_v2(16, grad_ckpt=model.grad_ckpt)
    return HANetDeepLab(trunk, num_classes, 16, model)


def DeepMobileNetV3PlusD_HANet_OS8(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """MobileNetV2 at stride 8."""
    trunk = mobilenet_v2(8, grad_ckpt=model.grad_ckpt)
    return HANetDeepLab(trunk, num_classes, 8, model)


def DeepShuffleNetV3PlusD_HANet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """ShuffleNetV2 x1.0 at stride 16."""
    trunk = shufflenet_v2(16, grad_ckpt=model.grad_ckpt)
    return HANetDeepLab(trunk, num_classes, 16, model)


def DeepShuffleNetV3PlusD_HANet_OS8(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """ShuffleNetV2 x1.0 at stride 8."""
    trunk = shufflenet_v2(8, grad_ckpt=model.grad_ckpt)
    return HANetDeepLab(trunk, num_classes, 8, model)


def DeepShuffleNetV3PlusD_HANet_OS32(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """ShuffleNetV2 x1.0 at stride 32."""
    trunk = shufflenet_v2(32, grad_ckpt=model.grad_ckpt)
    return HANetDeepLab(trunk, num_classes, 32, model)


def DeepMNASNet05V3PlusD_HANet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """MNASNet 0.5 at stride 16."""
    trunk = mnasnet(True, 16, grad_ckpt=model.grad_ckpt)
    return HANetDeepLab(trunk, num_classes, 16, model)


def DeepMNASNet10V3PlusD_HANet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """MNASNet 1.0 at stride 16."""
    trunk = mnasnet(False, 16, grad_ckpt=model.grad_ckpt)
    return HANetDeepLab(trunk, num_classes, 16, model)
