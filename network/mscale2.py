# SPDX-License-Identifier: Apache-2.0
"""Multi-scale attention that looks at two scales at once.

The attention of a scale comes from its features beside those of the next higher scale; the
predictions are joined as in `network/multiscale.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from network.arch import Arch
from network.basic import HRNET_OPTIONS, PlainHRNet, hrnet_trunk
from network.contract import OneScale
from network.deepv3 import PLUS_OPTIONS, deepv3_plus
from network.heads.scale_attention import sigmoid_head
from network.multiscale import MultiScale, ScalePass, scale_pass
from network.ops.resize import Size, at_scale, resize, size_of
from network.ops.rows import scaled_rows
from network.outputs import ATTENTION_PREFIX, attn_key
from settings.model import ModelConfig

PAIR_OPTIONS = frozenset({"n_scales", "mscale_lo_scale", "segattn_bot_ch"})


class FeaturePairs(MultiScale):
    """`scale_attn` maps two neighbouring scales (B, 2C, h, w) to (B, 1, h, w) in 0..1."""

    def passes(
        self,
        images: Tensor,
        rows: Tensor | None,
        scales: Sequence[float],
        attend_top: bool = False,
    ) -> list[ScalePass]:
        """As in `MultiScale`; the top has no higher scale and so no attention."""
        found = []
        for scale in reversed(scales):
            size, image = self.scaled(images, scale)
            with at_scale(scale):
                found.append((scale, size, self.net.maps(image, scaled_rows(rows, size[0]))))
        higher_feats = [maps.feats for _, _, maps in found[1:]]
        attentions = [
            self._attend(maps.feats, higher)
            for (_, _, maps), higher in zip(found, higher_feats, strict=False)
        ]
        together = zip(found, [*attentions, None], strict=True)
        return [scale_pass(*each, attention) for each, attention in together][::-1]

    def _attend(self, lower: Tensor, higher: Tensor) -> Tensor:
        higher = resize(higher, size_of(lower), self.align_corners)
        return self.scale_attn(torch.cat([lower, higher], dim=1))

    def single_scales(self, passes: list[ScalePass], size: Size) -> dict[str, Tensor]:
        """`pred_*` of every pass; `attn_10x` is the map used last, at the size of the image."""
        outputs = super().single_scales(passes, size)
        outputs = {k: v for k, v in outputs.items() if not k.startswith(ATTENTION_PREFIX)}
        lowest = min(passes, key=lambda each: each.scale)
        if lowest.attention is not None:
            attention = resize(lowest.attention, lowest.size, self.align_corners)
            outputs[attn_key(1.0)] = resize(attention, size, self.align_corners)
        return outputs


def _pairs(net: OneScale, model: ModelConfig) -> FeaturePairs:
    attention = sigmoid_head(2 * net.feature_channels, 1, model.segattn_bot_ch)
    return FeaturePairs(net, attention, lo_scale=model.mscale_lo_scale, n_scales=model.n_scales)


def _deepv3(num_classes: int, model: ModelConfig) -> FeaturePairs:
    return _pairs(deepv3_plus(num_classes, model, "resnet-50", width=model.segattn_bot_ch), model)


def _hrnet(num_classes: int, model: ModelConfig) -> FeaturePairs:
    trunk, width = hrnet_trunk(model), model.segattn_bot_ch
    return _pairs(PlainHRNet(trunk, num_classes, width=width, head_name="cls_head"), model)


ARCHS = {
    "DeepV3R50": Arch(
        "DeepLabV3+ on ResNet-50: 42,342,976 parameters with 19 classes",
        _deepv3,
        PAIR_OPTIONS | PLUS_OPTIONS,
    ),
    "HRNet": Arch("HRNet-W48; the reference cannot build it", _hrnet, PAIR_OPTIONS | HRNET_OPTIONS),
}
