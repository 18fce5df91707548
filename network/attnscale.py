# SPDX-License-Identifier: Apache-2.0
"""Multi-scale prediction with weights from one head that sees the features of all scales.

Source of the idea: Chen et al., "Attention to Scale: Scale-Aware Semantic Image Segmentation"
(2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from network.arch import Arch
from network.contract import OneScale, SeveralScales
from network.deepv3 import PLUS_OPTIONS, deepv3_plus
from network.heads.scale_attention import sigmoid_head
from network.heads.segmentation import segmentation_head
from network.ops.conv import conv
from network.ops.resize import Size, at_scale, resize, scaled_size, size_of
from network.ops.rows import scaled_rows
from network.outputs import PRED, attn_key, boundary_outputs, pred_key
from runtime.errors import UserError
from settings.model import ModelConfig

ATTENTION_OPTIONS = PLUS_OPTIONS | {"n_scales"}
DEFAULT_SCALES = (0.5, 1.0, 2.0)
PLAIN_WIDTH = 512
SMALLEST_SUM = 1e-6  # of two weights in 0..1 that something is divided by


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """logits (B, K, h, w) and feats (B, C, h, w) of a copy of the image, `size` large.

    boundary: what boundary heads say, by output key.
    """

    scale: float
    size: Size
    logits: Tensor
    feats: Tensor
    boundary: dict[str, Tensor]


class AllScales(SeveralScales):
    """`net` at all `n_scales`, in training too; the weighted sum of its predictions.

    `attention` maps the features of all scales (B, S * C, h, w) to a weight for each (B, S,
    h', w'), of any sign. The head is built for the number of scales, so that stays.
    """

    def __init__(self, net: OneScale, attention: nn.Module, n_scales: Sequence[float]) -> None:
        super().__init__(net, attention, sorted(n_scales))

    def forward(
        self, images: Tensor, rows: Tensor | None = None, return_all: bool = False
    ) -> dict[str, Tensor]:
        """images (B, 3, H, W) -> the outputs that `network/outputs.py` lists."""
        size = size_of(images)
        passes = [self._run(images, rows, scale) for scale in self.scales]
        weights = self.weights([each.feats for each in passes], size)
        outputs, joint = {}, None
        for each, weight in zip(passes, weights, strict=True):
            # By way of the scaled size: two bilinear resizes are not one.
            at_scale = resize(each.logits, each.size, self.align_corners)
            term = weight * resize(at_scale, size, self.align_corners)
            joint = term if joint is None else joint + term
            if self.training or return_all:
                outputs[pred_key(each.scale)] = at_scale
                outputs[attn_key(each.scale)] = weight
            if each.scale == 1.0:
                outputs.update(each.boundary)
        assert joint is not None
        return {PRED: joint, **outputs}

    def weights(self, feats: list[Tensor], size: Size | None = None) -> list[Tensor]:
        """The weights of all scales, ascending, each (B, 1, *size), from their feats.

        Without `size` they stay at the resolution of the head.
        """
        first = self.scales.index(1.0)
        # The features stand in this order, the weights in that of the scales.
        order = [first, *(index for index in range(len(feats)) if index != first)]
        together = torch.cat(self._same_size([feats[index] for index in order]), dim=1)
        return list(self._head(together, size).split(1, dim=1))

    def _head(self, feats: Tensor, size: Size | None) -> Tensor:
        """What the attention head says of feats (B, C, h, w): (B, S, *size)."""
        maps: Tensor = self.scale_attn(feats)
        return maps if size is None else resize(maps, size, self.align_corners)

    def _same_size(self, feats: list[Tensor]) -> list[Tensor]:
        """All at the size of the first."""
        size = size_of(feats[0])
        return [resize(each, size, self.align_corners) for each in feats]

    def _run(self, images: Tensor, rows: Tensor | None, scale: float) -> _Pass:
        size = scaled_size(size_of(images), scale)
        image = resize(images, size, self.align_corners)
        with at_scale(scale):
            maps = self.net.maps(image, scaled_rows(rows, size[0]))
        return _Pass(
            scale=scale,
            size=size,
            logits=maps.logits,
            feats=maps.feats,
            boundary=boundary_outputs(maps.mask, maps.direction),
        )


class PairedScales(AllScales):
    """A head of two weights in 0..1 for each pair of neighbouring scales.

    `attention` maps the features of a pair (B, 2C, h, w), lower scale first, to (B, 2, h, w).
    The pairs share one head; a pair shares out what the pair before gave to their common scale.
    """

    # differs: with four scales or more the reference shares out what the pair before said of the
    # common scale by itself, and not what it had left of its own share. Here the weights always
    # add up to those of the first pair.

    def weights(self, feats: list[Tensor], size: Size | None = None) -> list[Tensor]:
        """As in `AllScales`; the pairs are shared out at `size`."""
        common = size_of(feats[self.scales.index(1.0)])
        feats = [resize(each, common, self.align_corners) for each in feats]
        weights: list[Tensor] = []
        for lower, higher in zip(feats, feats[1:], strict=False):
            # The map of a pair is resized before the division: the two do not commute.
            pair = self._head(torch.cat([lower, higher], dim=1), size).float()
            if weights:
                total = pair.sum(dim=1, keepdim=True).clamp_min(SMALLEST_SUM)
                pair = pair * weights.pop() / total
            weights += pair.split(1, dim=1)
        return weights


def plain_head(channels: int, num_scales: int) -> nn.Sequential:
    """3x3, ReLU, 1x1; keys 0 and 2. The padded 1x1 makes the map two pixels larger."""
    last = nn.Conv2d(PLAIN_WIDTH, num_scales, 1, padding=1, bias=False)
    return nn.Sequential(conv(channels, PLAIN_WIDTH, 3), nn.ReLU(inplace=True), last)


def _all_scales(about: str, trunk: str, *, batch_norm: bool | None = None) -> Arch:
    """A head on all scales, with batch norm as said or else as the option says."""

    def build(num_classes: int, model: ModelConfig) -> AllScales:
        net = deepv3_plus(num_classes, model, trunk)
        scales = model.n_scales or DEFAULT_SCALES
        normed = model.attnscale_bn_head if batch_norm is None else batch_norm
        head = segmentation_head if normed else plain_head
        return AllScales(net, head(len(scales) * net.feature_channels, len(scales)), scales)

    chosen = {"attnscale_bn_head"} if batch_norm is None else set()
    return Arch(about, build, ATTENTION_OPTIONS | chosen)


def _paired(num_classes: int, model: ModelConfig) -> PairedScales:
    scales = model.n_scales or DEFAULT_SCALES
    if len(scales) < 2:
        raise UserError("n_scales: paired attention (attnscale.DeepV3R50BP) needs two scales")
    net = deepv3_plus(num_classes, model, "resnet-50")
    return PairedScales(net, sigmoid_head(2 * net.feature_channels, 2), scales)


# Numbers of parameters are those with 19 classes and three scales.
ARCHS = {
    "DeepV3R50": _all_scales("DeepLabV3+ on ResNet-50: 44,555,072 parameters", "resnet-50"),
    "DeepV3R50B": _all_scales(
        "the same, batch norm in the head: 43,043,904 parameters", "resnet-50", batch_norm=True
    ),
    "DeepV3R50BP": Arch(
        "the same with paired attention: 42,343,232 parameters", _paired, ATTENTION_OPTIONS
    ),
    "DeepV3W38": _all_scales("DeepLabV3+ on WiderResNet-38: 141,307,968 parameters", "wrn38"),
}
