# SPDX-License-Identifier: Apache-2.0
"""Hierarchical multi-scale prediction around any network of one scale.

A network is run on copies of the image at several scales; the attention of each scale says how
its prediction is blended with what the higher scales gave. Two scales in training and any list
that contains 1.0 in inference go through the same `fold`.

Source: Tao, Sapra, Catanzaro, "Hierarchical Multi-Scale Attention for Semantic Segmentation"
(2020), section 3.1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from network.contract import OneScale, SeveralScales
from network.heads.scale_attention import ScaleAttention
from network.ops.resize import Size, at_scale, resize, scaled_size, size_of
from network.ops.rows import scaled_rows
from network.outputs import AUX, PRED, Maps, attn_key, boundary_outputs, pred_key
from settings.model import ModelConfig

MSCALE_OPTIONS = frozenset(  # that `hierarchical` reads
    {
        "n_scales",
        "mscale_lo_scale",
        "segattn_bot_ch",
        "mscale_dropout",
        "mscale_no3x3",
        "mscale_old_arch",
    }
)

CLASSES_AT_ONCE = 4  # full-size maps of so many classes are in flight beside the result


@dataclass(frozen=True, kw_only=True)
class ScalePass:
    """One pass at `scale`, whose image was `size` large.

    logits (B, K, h, w), aux (B, K, h, w) or None, attention (B, 1, h, w) in 0..1 or None: at the
    network's own resolution, or at `size` already. mask, direction: of boundary heads, as `Maps`.
    """

    scale: float
    size: Size
    logits: Tensor
    aux: Tensor | None
    attention: Tensor | None
    mask: Tensor | None = None
    direction: Tensor | None = None


def scale_pass(scale: float, size: Size, maps: Maps, attention: Tensor | None) -> ScalePass:
    """The pass that gave `maps`."""
    return ScalePass(
        scale=scale,
        size=size,
        logits=maps.logits,
        aux=maps.aux,
        attention=attention,
        mask=maps.mask,
        direction=maps.direction,
    )


def fold(
    passes: Sequence[ScalePass], scores: Sequence[Tensor], size: Size, align_corners: bool
) -> Tensor:
    """Join the scores of all passes, from the highest scale down: (B, K', *size).

    `scores` holds (B, K', h, w) for each of `passes`: their logits, their auxiliary logits, or
    some channels of these. At s >= 1 the joint map takes the size of the pass; below, the
    weighted scores are formed at the size of the pass and brought up to the joint map.
    """
    joint = resize(scores[0], passes[0].size, align_corners)
    for current, score in zip(passes[1:], scores[1:], strict=True):
        assert current.attention is not None
        attention = resize(current.attention, current.size, align_corners)
        weighted = attention * resize(score, current.size, align_corners)
        if current.scale >= 1:
            joint = weighted + (1 - attention) * resize(joint, current.size, align_corners)
        else:
            joint = resize(joint, size, align_corners)
            joint = resize(weighted, size, align_corners) + joint * (
                1 - resize(attention, size, align_corners)
            )
    return joint


class MultiScale(SeveralScales):
    """The wrapper: `net` at several scales, blended by `scale_attn`.

    `attention` maps (B, net.feature_channels, h, w) to (B, 1, h, w) in 0..1. Training runs the
    pair (`lo_scale`, 1.0); inference the same, or `n_scales`. Weights: `net.*`, `scale_attn.*`.
    """

    def __init__(
        self,
        net: OneScale,
        attention: nn.Module,
        *,
        lo_scale: float = 0.5,
        n_scales: Sequence[float] | None = None,
    ) -> None:
        assert 0 < lo_scale < 1
        scales = (1.0, lo_scale) if n_scales is None else n_scales
        super().__init__(net, attention, sorted(scales, reverse=True))
        self.lo_scale = lo_scale

    def forward(
        self, images: Tensor, rows: Tensor | None = None, return_all: bool = False
    ) -> dict[str, Tensor]:
        """images (B, 3, H, W) -> the outputs that `network/outputs.py` lists."""
        if self.training:
            return self._train_outputs(images, rows)
        passes = self.passes(images, rows, self.scales)
        outputs = {PRED: self._joint_by_classes(passes, size_of(images))}
        outputs.update(self._boundary(passes))
        if return_all:
            outputs.update(self.single_scales(passes, size_of(images)))
        return outputs

    def passes(
        self,
        images: Tensor,
        rows: Tensor | None,
        scales: Sequence[float],
        attend_top: bool = False,
    ) -> list[ScalePass]:
        """A pass at each of `scales`, which descend; the top has an attention if `attend_top`.

        The lowest runs first: in training the order decides batch-norm statistics and dropout.
        """
        passes = []
        for scale in reversed(scales):
            attend = attend_top or scale != scales[0]
            size, image = self.scaled(images, scale)
            with at_scale(scale):
                maps = self.net.maps(image, scaled_rows(rows, size[0]), features=attend)
            attention = self.scale_attn(maps.feats) if attend else None
            passes.append(scale_pass(scale, size, maps, attention))
        return passes[::-1]

    def scaled(self, images: Tensor, scale: float) -> tuple[Size, Tensor]:
        """The size of the copy of `images` at `scale`, and the copy."""
        size = scaled_size(size_of(images), scale)
        return size, resize(images, size, self.align_corners)

    def _joint_by_classes(self, passes: list[ScalePass], size: Size) -> Tensor:
        """The joint logits, a few classes at a time.

        Passes stay at the network's own resolution; only the result and `CLASSES_AT_ONCE`
        channels are ever held at the size of the image or of its enlarged copies.
        """
        first = passes[0].logits
        starts = range(0, first.shape[1], CLASSES_AT_ONCE)
        chunks = [slice(start, start + CLASSES_AT_ONCE) for start in starts]

        def joined(chunk: slice) -> Tensor:
            scores = [each.logits[:, chunk] for each in passes]
            return fold(passes, scores, size, self.align_corners)

        if torch.compiler.is_exporting():  # a graph has no memory to write into
            return torch.cat([joined(chunk) for chunk in chunks], dim=1)
        joint = first.new_empty(*first.shape[:2], *size)
        for chunk in chunks:
            joint[:, chunk] = joined(chunk)
        return joint

    def single_scales(self, passes: list[ScalePass], size: Size) -> dict[str, Tensor]:
        """`pred_*` of every pass and `attn_*` where there is one, at the size of the pass.

        `size` is that of the image, for wrappers whose attention is no map of one scale.
        """
        outputs = {}
        for each in passes:
            outputs[pred_key(each.scale)] = resize(each.logits, each.size, self.align_corners)
            if each.attention is not None:
                attention = resize(each.attention, each.size, self.align_corners)
                outputs[attn_key(each.scale)] = attention
        return outputs | self._boundary(passes)

    def _boundary(self, passes: list[ScalePass]) -> dict[str, Tensor]:
        """`mask` and `dir` of the pass at 1.0, at the size they have, if they were made."""
        plain = next(each for each in passes if each.scale == 1.0)
        return boundary_outputs(plain.mask, plain.direction)

    def _train_outputs(self, images: Tensor, rows: Tensor | None) -> dict[str, Tensor]:
        # Nothing reads the attention at 1.0 here, but its batch norms must know this scale:
        # inference with a scale above 1.0 uses it.
        top, low = self.passes(images, rows, (1.0, self.lo_scale), attend_top=True)
        hi = self._at_size(dataclasses.replace(top, attention=None))
        lo = self._at_size(low)
        size = size_of(images)
        outputs = {PRED: fold([hi, lo], [hi.logits, lo.logits], size, self.align_corners)}
        if hi.aux is not None and lo.aux is not None:
            outputs[AUX] = fold([hi, lo], [hi.aux, lo.aux], size, self.align_corners)
        return outputs | self.single_scales([lo, hi], size)

    def _at_size(self, each: ScalePass) -> ScalePass:
        """The pass with its maps resized once, since training needs them in several places."""

        def at_size(x: Tensor | None) -> Tensor | None:
            return None if x is None else resize(x, each.size, self.align_corners)

        return dataclasses.replace(
            each,
            logits=resize(each.logits, each.size, self.align_corners),
            aux=at_size(each.aux),
            attention=at_size(each.attention),
        )


def hierarchical(
    net: OneScale,
    model: ModelConfig,
    wrapper: type[MultiScale] = MultiScale,
    *,
    num_attentions: int = 1,
) -> MultiScale:
    """`net` with the attention head and the scales that `model` wants."""
    attention = ScaleAttention(
        net.feature_channels,
        model.segattn_bot_ch,
        outputs=num_attentions,
        with_3x3=not model.mscale_no3x3,
        dropout=model.mscale_dropout,
        old_names=model.mscale_old_arch,
    )
    return wrapper(net, attention, lo_scale=model.mscale_lo_scale, n_scales=model.n_scales)
