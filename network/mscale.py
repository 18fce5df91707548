# SPDX-License-Identifier: Apache-2.0
"""Hierarchical multi-scale attention on DeepLabV3+, on the Deeper decoder and on plain HRNet.

Source: Tao, Sapra, Catanzaro, "Hierarchical Multi-Scale Attention for Semantic Segmentation"
(2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

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
from network.outputs import with_boundary
from settings.model import ModelConfig

__all__ = [
    "DeepV3EffB4",
    "DeepV3EffB4Fuse",
    "DeepV3R50",
    "DeepV3W38",
    "DeepV3W38Fuse",
    "DeepV3W38Fuse2",
    "DeepV3X71",
    "DeeperEffB4",
    "DeeperW38",
    "DeeperX71",
    "HRNet",
    "HRNet_ASP",
]

USED_OPTIONS = {
    **{name: MSCALE_OPTIONS | PLUS_OPTIONS for name in __all__},
    "HRNet": MSCALE_OPTIONS | HRNET_OPTIONS,
    "HRNet_ASP": MSCALE_OPTIONS | HRNET_OPTIONS | {"aspp_bot_ch"},
}
PUBLISHED = ModelConfig()


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
                low, context = net.encode(image, own_rows)
            if trust is not None and lower is not None:
                context = self._blend(trust, passes[-1].size, lower, context)
            maps = with_boundary(net, net.decode(low, context, own_rows))
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


def _deepv3(num_classes: int, model: ModelConfig, trunk: str) -> DeepV3Plus:
    return deepv3_plus(num_classes, model, trunk, width=model.segattn_bot_ch)


def DeepV3R50(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """DeepLabV3+ on ResNet-50: 41,642,560 parameters with 19 classes."""
    return hierarchical(_deepv3(num_classes, model, "resnet-50"), model)


def DeepV3W38(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """DeepLabV3+ on WiderResNet-38: 138,395,456 parameters with 19 classes."""
    return hierarchical(_deepv3(num_classes, model, "wrn38"), model)


def DeepV3X71(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """DeepLabV3+ on Xception-71: 55,923,760 parameters with 19 classes."""
    return hierarchical(_deepv3(num_classes, model, "xception71"), model)


def DeepV3EffB4(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """DeepLabV3+ on EfficientNet-B4."""
    return hierarchical(_deepv3(num_classes, model, "efficientnet-b4"), model)


def DeepV3W38Fuse(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """`DeepV3W38` with shared ASPP maps: 138,395,456 parameters with 19 classes."""
    return hierarchical(_deepv3(num_classes, model, "wrn38"), model, FusedContext)


def DeepV3W38Fuse2(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """`DeepV3W38Fuse` with an attention of its own for the ASPP maps: 138,395,712 parameters."""
    return hierarchical(_deepv3(num_classes, model, "wrn38"), model, FusedContext, num_attentions=2)


def DeepV3EffB4Fuse(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """`DeepV3EffB4` with shared ASPP maps."""
    return hierarchical(_deepv3(num_classes, model, "efficientnet-b4"), model, FusedContext)


def DeeperW38(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """The Deeper decoder on WiderResNet-38: 140,900,160 parameters with 19 classes."""
    return hierarchical(deeper(num_classes, model, "wrn38"), model)


def DeeperX71(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """The Deeper decoder on Xception-71: 58,421,296 parameters with 19 classes."""
    return hierarchical(deeper(num_classes, model, "xception71"), model)


def DeeperEffB4(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """The Deeper decoder on EfficientNet-B4."""
    return hierarchical(deeper(num_classes, model, "efficientnet-b4"), model)


def HRNet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """HRNet-W48: 69,829,696 parameters with 19 classes."""
    trunk, width = hrnet_trunk(model), model.segattn_bot_ch
    return hierarchical(PlainHRNet(trunk, num_classes, width=width, head_name="cls_head"), model)


def HRNet_ASP(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """HRNet-W48 with ASPP: 73,367,104 parameters with 19 classes."""
    net = HRNetASPP(
        hrnet_trunk(model),
        num_classes,
        bottleneck=model.aspp_bot_ch,
        width=model.segattn_bot_ch,
    )
    return hierarchical(net, model)
