# SPDX-License-Identifier: Apache-2.0
"""ResNet, ResNeXt and Wide ResNet of torchvision at output stride 4, 8 or 16.

Sources: He et al., "Deep Residual Learning" (2016); Xie et al., "Aggregated Residual
Transformations" (2017); Zagoruyko, Komodakis, "Wide Residual Networks" (2016).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torchvision.models import resnet as torchvision_resnet

from network.backbones.five_stages import FiveStages
from network.ops.conv import dilate

DILATIONS = {  # output stride -> dilation of stages that no longer halve the map
    16: {"layer4": 2},
    8: {"layer3": 2, "layer4": 4},
    4: {"layer2": 2, "layer3": 4, "layer4": 8},
}
WIDE_STEM_NAMES = {  # three convolutions; in ImageNet files conv1, bn1, conv2, ...
    f"{kind}{number}.": f"layer0.{3 * (number - 1) + offset}."
    for number in (1, 2, 3)
    for kind, offset in (("conv", 0), ("bn", 1))
}


@dataclass(frozen=True, kw_only=True)
class ResNetKind:
    """Blocks of the four stages, groups and width of a bottleneck; a stem of 7x7 or 3 times 3x3."""

    blocks: tuple[int, int, int, int]
    groups: int = 1
    width: int = 64
    wide_stem: bool = False


KINDS = {
    "resnet-50": ResNetKind(blocks=(3, 4, 6, 3)),
    "resnet-101": ResNetKind(blocks=(3, 4, 23, 3), wide_stem=True),
    "resnet-152": ResNetKind(blocks=(3, 8, 36, 3)),
    "resnext-50": ResNetKind(blocks=(3, 4, 6, 3), groups=32, width=4),
    "resnext-101": ResNetKind(blocks=(3, 4, 23, 3), groups=32, width=8),
    "wide_resnet-50": ResNetKind(blocks=(3, 4, 6, 3), width=128),
    "wide_resnet-101": ResNetKind(blocks=(3, 4, 23, 3), width=128),
}


def _wide_stem() -> nn.Sequential:
    """Three 3x3 convolutions to 128 channels at stride 4."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((3, 64, 2), (64, 64, 1), (64, 128, 1)):
        conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.MaxPool2d(3, stride=2, padding=1))


def _widen(stage: nn.Sequential, channels: int) -> None:
    """Let the first block of `stage` take maps of `channels`."""
    for name in ("0.conv1", "0.downsample.0"):
        old = stage.get_submodule(name)
        assert isinstance(old, nn.Conv2d)
        conv = nn.Conv2d(channels, old.out_channels, 1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        stage.set_submodule(name, conv)


class ResNetStages(FiveStages):
    """Maps of 256 channels at stride 4, and of 1024 and 2048 at `stride`."""

    channels = (256, 1024, 2048)

    def __init__(self, kind: ResNetKind, stride: int, *, grad_ckpt: bool = False) -> None:
        super().__init__(grad_ckpt)
        self.strides = (4, stride, stride)
        source = torchvision_resnet.ResNet(
            torchvision_resnet.Bottleneck,
            list(kind.blocks),
            num_classes=1,  # enough for a classifier that is thrown away
            groups=kind.groups,
            width_per_group=kind.width,
        )
        if kind.wide_stem:
            self.layer0 = _wide_stem()
            _widen(source.layer1, 128)
            self.file_names = {**WIDE_STEM_NAMES, "fc.": None}
        else:
            self.layer0 = nn.Sequential(source.conv1, source.bn1, source.relu, source.maxpool)
            self.file_names = {"conv1.": "layer0.0.", "bn1.": "layer0.1.", "fc.": None}
        self.layer1, self.layer2 = source.layer1, source.layer2
        self.layer3, self.layer4 = source.layer3, source.layer4
        for name, rate in DILATIONS[stride].items():
            stage = self.get_submodule(name)
            assert isinstance(stage, nn.Sequential)
            dilate(stage, rate)
