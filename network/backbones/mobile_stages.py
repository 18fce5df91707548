# SPDX-License-Identifier: Apache-2.0
"""MobileNetV2, ShuffleNetV2 and MNASNet of torchvision at output stride 8, 16 or 32.

Only the convolutions that would halve the map are dilated, the depthwise ones after them are
not: so were the published weights trained.

Sources: Sandler et al., "MobileNetV2" (2018); Ma et al., "ShuffleNet V2" (2018); Tan et al.,
"MnasNet" (2019); Choi, Kim, Choo, "Cars Can't Fly up in the Sky" (2020), section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import nn
from torchvision import models

from network.backbones.five_stages import FiveStages

DILATIONS = {32: {}, 16: {"layer3": 2}, 8: {"layer2": 2, "layer3": 4}}  # output stride -> rates
MOBILENET_CUTS = (0, 2, 7, 11, 18, 19)  # first of torchvision's `features` in layer0, layer1, ...
MNASNET_CUTS = (0, 8, 10, 12, 14, 17)
MNASNET_SMALLEST = 80  # pixels: five rows before the stage that takes four of them


def _unstride(stage: nn.Module, rate: int) -> None:
    """Stride 1, dilation and padding `rate` for the convolutions that halve the map."""
    for layer in stage.modules():
        if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
            layer.stride = (1, 1)
            # differs from a "same" padding for the 5x5 kernels of MNASNet: the map shrinks.
            layer.dilation = layer.padding = (rate, rate)


class MobileStages(FiveStages):
    """Maps after layer1, at stride 8, and after layer3 and layer4, at `stride`."""

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        channels: tuple[int, int, int],
        stride: int,
        file_names: dict[str, str | None],
        *,
        smallest: int = 1,
        grad_ckpt: bool = False,
    ) -> None:
        super().__init__(grad_ckpt)
        self.channels, self.smallest = channels, smallest
        self.strides = (8, stride, stride)
        self.file_names = file_names
        for name, stage in layers.items():
            self.add_module(name, stage)
        for name, rate in DILATIONS[stride].items():
            _unstride(layers[name], rate)


def _cut(
    source: nn.Sequential, cuts: Sequence[int], name: str
) -> tuple[dict[str, nn.Module], dict[str, str | None]]:
    """Pieces of `source` as layer0, layer1, ..., and the names of its parts in files."""
    stages: dict[str, nn.Module] = {}
    names: dict[str, str | None] = {"classifier.": None}
    for number, (start, stop) in enumerate(pairwise(cuts)):
        stages[f"layer{number}"] = nn.Sequential(*list(source)[start:stop])
        names |= {f"{name}.{i}.": f"layer{number}.{i - start}." for i in range(start, stop)}
    return stages, names


def mobilenet_v2(stride: int, *, grad_ckpt: bool = False) -> MobileStages:
    """Maps of 32, 320 and 1280 channels."""
    layers, names = _cut(models.mobilenet_v2(num_classes=1).features, MOBILENET_CUTS, "features")
    return MobileStages(layers, (32, 320, 1280), stride, names, grad_ckpt=grad_ckpt)


def shufflenet_v2(stride: int, *, grad_ckpt: bool = False) -> MobileStages:
    """Maps of 116, 464 and 1024 channels."""
    source = models.shufflenet_v2_x1_0(num_classes=1)
    layers = {
        "layer0": nn.Sequential(source.conv1, source.maxpool),
        "layer1": source.stage2,
        "layer2": source.stage3,
        "layer3": source.stage4,
        "layer4": source.conv5,
    }
    names: dict[str, str | None] = {
        "conv1.": "layer0.0.",
        "stage2.": "layer1.",
        "stage3.": "layer2.",
        "stage4.": "layer3.",
        "conv5.": "layer4.",
        "fc.": None,
    }
    return MobileStages(layers, (116, 464, 1024), stride, names, grad_ckpt=grad_ckpt)


def mnasnet(half: bool, stride: int, *, grad_ckpt: bool = False) -> MobileStages:
    """Depth multiplier 0.5 or 1.0: maps of 24 or 40, 160 or 320, and 1280 channels.

    The dilated stage takes four rows and columns off the map, see `_unstride`.
    """
    build = models.mnasnet0_5 if half else models.mnasnet1_0
    layers, names = _cut(build(num_classes=1).layers, MNASNET_CUTS, "layers")
    channels = (24, 160, 1280) if half else (40, 320, 1280)
    return MobileStages(
        layers, channels, stride, names, smallest=MNASNET_SMALLEST, grad_ckpt=grad_ckpt
    )
