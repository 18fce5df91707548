# SPDX-License-Identifier: Apache-2.0
"""Hierarchical multi-scale attention on DeepLabV3+, on the Deeper decoder and on plain HRNet.

Source: Tao, Sapra, Catanzaro, "Hierarchical Multi-Scale Attention for Semantic Segmentation"
(2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor

from network.arch import Arch
from network.basic import HRNET_OPTIONS, HRNetASPP, PlainHRNet, hrnet_trunk
from network.deeper import deeper
from network.deepv3 import PLUS_OPTIONS, DeepV3Plus, deepv3_plus
from network.multiscale import (
    MSCALE_OPTIONS,
    MultiScale,
    ScalePass,
    hierarchical,
    scale_pass,
)
from network.ops.resize import Size, at_scale, resize, size_of
from network.ops.rows import scaled_rows
from settings.model import ModelConfig


class FusedContext(MultiScale):
    """Scales that also share their ASPP map, from the lowest up.

    Before a pass is decoded its ASPP map is blended with that of the next lower pass, weighted
    by the last channel of that pass' attention; the first channel blends the predictions.
    """

    def passes(
        self,
        images: Tensor,
        rows: Tensor | None,
        scales: Sequence[float],
        attend_top: bool = False,
    ) -> list[ScalePass]:
        """As in `MultiScale`."""
        net = cast(DeepV3Plus, self.net)
        passes: list[ScalePass] = []
        trust: Tensor | None = None
        lower: Tensor | None = None
        for scale in reversed(scales):
            size, image = self.scaled(images, scale)
            own_rows = scaled_rows(rows, size[0])
            with at_scale(scale):
                low, context = net.encode(net.own_inputs(image), own_rows)
            if trust is not None and lower is not None:
                context = self._blend(trust, passes[-1].size, lower, context)
            maps = net.with_boundary(net.decode(low, context, own_rows))
            attend = attend_top or scale != scales[0]
            trust, lower = (self.scale_attn(maps.feats), context) if attend else (None, None)
            passes.append(scale_pass(scale, size, maps, None if trust is None else trust[:, :1]))
        return passes[::-1]

    def _blend(self, trust: Tensor, lower_size: Size, lower: Tensor, context: Tensor) -> Tensor:
        """`lower` where it is trusted, else `context` (B, 1280, h, w)."""
        size = size_of(context)
        # By way of the size of the lower pass: two bilinear resizes are not one.
        weight = resize(trust[:, -1:], lower_size, self.align_corners)
        weight = resize(weight, size, self.align_corners)
        lower = resize(lower, size, self.align_corners)
        return weight * lower + (1 - weight) * context


def _deepv3(
    about: str, trunk: str, wrapper: type[MultiScale] = MultiScale, *, num_attentions: int = 1
) -> Arch:
    """DeepLabV3+ on `trunk`, a name of `network/backbones/deeplab_trunks.py`."""

    def build(num_classes: int, model: ModelConfig) -> MultiScale:
        net = deepv3_plus(num_classes, model, trunk, width=model.segattn_bot_ch)
        return hierarchical(net, model, wrapper, num_attentions=num_attentions)

    return Arch(about, build, MSCALE_OPTIONS | PLUS_OPTIONS)


def _deeper(about: str, trunk: str) -> Arch:
    """The Deeper decoder on `trunk`."""

    def build(num_classes: int, model: ModelConfig) -> MultiScale:
        return hierarchical(deeper(num_classes, model, trunk), model)

    return Arch(about, build, MSCALE_OPTIONS | PLUS_OPTIONS)


def _hrnet(num_classes: int, model: ModelConfig) -> MultiScale:
    trunk, width = hrnet_trunk(model), model.segattn_bot_ch
    return hierarchical(PlainHRNet(trunk, num_classes, width=width, head_name="cls_head"), model)


def _hrnet_aspp(num_classes: int, model: ModelConfig) -> MultiScale:
    net = HRNetASPP(
        hrnet_trunk(model),
        num_classes,
        bottleneck=model.aspp_bot_ch,
        width=model.segattn_bot_ch,
    )
    return hierarchical(net, model)


# Numbers of parameters are those with 19 classes.
ARCHS = {
    "DeepV3R50": _deepv3("DeepLabV3+ on ResNet-50: 41,642,560 parameters", "resnet-50"),
    "DeepV3W38": _deepv3("DeepLabV3+ on WiderResNet-38: 138,395,456 parameters", "wrn38"),
    "DeepV3X71": _deepv3("DeepLabV3+ on Xception-71: 55,923,760 parameters", "xception71"),
    "DeepV3EffB4": _deepv3("DeepLabV3+ on EfficientNet-B4", "efficientnet-b4"),
    "DeepV3W38Fuse": _deepv3(
        "DeepV3W38 with shared ASPP maps: 138,395,456 parameters", "wrn38", FusedContext
    ),
    "DeepV3W38Fuse2": _deepv3(
        "DeepV3W38Fuse with an attention of its own for the ASPP maps: 138,395,712 parameters",
        "wrn38",
        FusedContext,
        num_attentions=2,
    ),
    "DeepV3EffB4Fuse": _deepv3(
        "DeepV3EffB4 with shared ASPP maps", "efficientnet-b4", FusedContext
    ),
    "DeeperW38": _deeper("Deeper decoder on WiderResNet-38: 140,900,160 parameters", "wrn38"),
    "DeeperX71": _deeper("Deeper decoder on Xception-71: 58,421,296 parameters", "xception71"),
    "DeeperEffB4": _deeper("Deeper decoder on EfficientNet-B4", "efficientnet-b4"),
    "HRNet": Arch("HRNet-W48: 69,829,696 parameters", _hrnet, MSCALE_OPTIONS | HRNET_OPTIONS),
    "HRNet_ASP": Arch(
        "HRNet-W48 with ASPP: 73,367,104 parameters",
        _hrnet_aspp,
        MSCALE_OPTIONS | HRNET_OPTIONS | {"aspp_bot_ch"},
    ),
}
