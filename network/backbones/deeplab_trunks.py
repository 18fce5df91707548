# SPDX-License-Identifier: Apache-2.0
"""The trunks of the DeepLab family by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from network.backbones.efficientnet import EfficientNetB4
from network.backbones.resnet import ResNet
from network.backbones.seresnext import SEResNeXt
from network.backbones.three_maps import ThreeMaps
from network.backbones.wider_resnet import WiderResNet38
from network.backbones.xception import Xception71

TRUNKS: dict[str, Callable[..., ThreeMaps]] = {
    "resnet-50": ResNet,
    "resnet-101": ResNet,
    "seresnext-50": SEResNeXt,
    "seresnext-101": SEResNeXt,
    "wrn38": WiderResNet38,
    "xception71": Xception71,
    "efficientnet-b4": EfficientNetB4,
}


def make_trunk(name: str, *, grad_ckpt: bool = False) -> ThreeMaps:
    """The trunk `name` at its published size: `resnet-50`, `seresnext-101`, `wrn38`, ..."""
    _, _, depth = name.partition("-")
    sized: dict[str, Any] = {"depth": int(depth)} if depth.isdecimal() else {}
    return TRUNKS[name](**sized, grad_ckpt=grad_ckpt)
