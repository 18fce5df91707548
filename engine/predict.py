# SPDX-License-Identifier: Apache-2.0
"""Inference procedures: each wraps a callable (images, rows) -> scores in another one.

    infer = flip(multi_scale(whole(net), (0.5, 1.0, 2.0)))
    scores = infer(images, None)["pred"]                    # (B, K, H, W) float32

Every procedure returns a dict whose "pred" holds scores (B, K, H, W), float32, such that
softmax(scores) are the class probabilities: mean logits, or the logarithm of mean
probabilities. All other entries are finished pictures of the last plain pass: `attn_*`
(B, 1, h, w) in 0..1, `pred_*` (B, h, w) uint8 class ids and `gate_*` (B, C, h) in 0..1. At
most two score maps of the size of a pass live at once, besides what the network itself holds
during its forward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.outputs import ATTENTION_PREFIX, PRED, SCALE_PREFIX, pred_key, scaled_rows

Infer = Callable[[Tensor, Tensor | None], dict[str, Tensor]]
Average = Literal["logits", "probs"]

CLASS_CHUNK = 4  # classes resized at a time, so that no third full-size map is made


def whole(net: nn.Module, return_all: bool = False) -> Infer:
    """One forward pass of the whole image; with `return_all` also attention and scale maps.

    `net` must be in eval mode. Extra score maps of the network are reduced to class ids at
    once; the prediction itself is repeated as `pred_10x` beside them.
    """

    def infer(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        assert not net.training, "call net.eval() before inference"
        outputs = net(images, rows=rows, return_all=return_all)
        scores = outputs.pop(PRED).float()
        pictures = {}
        if return_all:
            for key in list(outputs):
                value = outputs.pop(key)
                if key.startswith(ATTENTION_PREFIX):
                    pictures[key] = value
                elif key.startswith(SCALE_PREFIX):
                    pictures[key] = class_ids(value)
            pictures.setdefault(pred_key(1.0), class_ids(scores))
        return {PRED: scores, **pictures}

    return infer


def beside(infer: Infer, pictures: Infer) -> Infer:
    """`infer`, whose results also hold what `pictures(images, rows)` gives; no scores."""

    def both(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        found = pictures(images, rows)
        return {**infer(images, rows), **found}

    return both


def class_ids(scores: Tensor) -> Tensor:
    """The class of the highest score: (B, K, H, W) -> (B, H, W) uint8; lowest id on a tie."""
    assert scores.shape[1] <= 256, "more than 256 classes do not fit into uint8"
    return scores.argmax(1).to(torch.uint8)


@dataclass(frozen=True)
class View:
    """One pass over a copy of the image, `scale` times as large, mirrored or not."""

    scale: float = 1.0
    mirrored: bool = False


class Averaged:
    """Mean of the scores of several views, each brought back to the size of the image.

    One sum for all views: flip and multi_scale around each other merge into one Averaged, so
    that they need no more memory together than alone.
    """

    def __init__(self, infer: Infer, views: Sequence[View], average: Average) -> None:
        self.infer, self.views, self.average = infer, tuple(views), average

    def __call__(self, images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        total: Tensor | None = None
        pictures: dict[str, Tensor] = {}
        for view in self.views:
            pictures = self.infer(*_view_of(images, rows, view))
            scores = pictures.pop(PRED)
            if total is None:
                total = scores.new_zeros(*scores.shape[:2], *images.shape[-2:])
            _accumulate_(total, scores, view.mirrored, self.average)
            del scores
        assert total is not None
        _rename_plain_pass(pictures, self.views[-1].scale)
        return {PRED: _mean_(total, len(self.views), self.average), **pictures}


def _views_of(infer: Infer, average: Average) -> tuple[Infer, tuple[View, ...]]:
    """What a further averaging procedure around `infer` starts from."""
    if isinstance(infer, Averaged) and infer.average == average:
        return infer.infer, infer.views
    return infer, (View(),)


def flip(infer: Infer, average: Average = "logits") -> Infer:
    """Mean of the scores of the mirrored image, mirrored back, and of the image itself.

    Pictures are those of the image itself. ValueError when `infer` already flips.
    """
    inner, views = _views_of(infer, average)
    if any(view.mirrored for view in views):
        raise ValueError("the mirrored image is averaged already")
    mirrored = [View(view.scale, mirrored=True) for view in views]
    return Averaged(inner, [*mirrored, *views], average)


def multi_scale(infer: Infer, scales: Sequence[float], average: Average = "logits") -> Infer:
    """Mean of the scores over input scales, each resized back to the size of the image.

    The input of scale s has round(size * s) pixels a side, bilinear. Pictures are those of
    the last scale. ValueError unless every scale is positive.
    """
    if not scales or any(scale <= 0 for scale in scales):
        raise ValueError(f"scales {tuple(scales)}: one or more positive numbers wanted")
    inner, views = _views_of(infer, average)
    if any(view.scale != 1.0 for view in views):  # scales of scales: rounded one by one
        inner, views = infer, (View(),)
    return Averaged(
        inner, [View(scale, view.mirrored) for scale in scales for view in views], average
    )


def slide(
    infer: Infer,
    crop: tuple[int, int],
    overlap: tuple[int, int],
    batch_windows: int = 4,
    average: Average = "logits",
) -> Infer:
    """Windows of `crop` pixels (height, width) that share `overlap` pixels with the next one.

    The last window of a row or column is moved inwards, and every pixel is divided by the
    number of windows that really saw it. An axis shorter than the crop gets one window of its
    own length. `batch_windows` windows of each image go through the network together. Only
    "pred" is returned. ValueError for an overlap that is negative or not below the crop.
    """
    if any(not 0 <= shared < side for side, shared in zip(crop, overlap, strict=True)):
        raise ValueError(f"overlap {overlap} must lie between 0 and below the crop {crop}")

    def windowed(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        batch, _, height, width = images.shape
        size = min(crop[0], height), min(crop[1], width)
        tops = window_starts(height, size[0], size[0] - min(overlap[0], size[0] - 1))
        lefts = window_starts(width, size[1], size[1] - min(overlap[1], size[1] - 1))
        corners = [(top, left) for top in tops for left in lefts]
        total: Tensor | None = None
        seen = images.new_zeros(height, width, dtype=torch.float32)
        for first in range(0, len(corners), batch_windows):
            part = corners[first : first + batch_windows]
            scores = infer(*_cut(images, rows, part, size))[PRED]
            if average == "probs":
                scores = _softmax_(scores)
            if total is None:
                total = scores.new_zeros(batch, scores.shape[1], height, width)
            for (top, left), window in zip(part, scores.split(batch), strict=True):
                total[:, :, top : top + size[0], left : left + size[1]] += window
                seen[top : top + size[0], left : left + size[1]] += 1
        assert total is not None
        return {PRED: _mean_(total, seen, average)}

    return windowed


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """First pixels of windows that cover 0..length; the last one ends exactly at `length`."""
    count = max(-(-(length - window) // stride), 0) + 1
    return [min(index * stride, length - window) for index in range(count)]


def _cut(
    images: Tensor, rows: Tensor | None, corners: list[tuple[int, int]], size: tuple[int, int]
) -> tuple[Tensor, Tensor | None]:
    """The windows of all images one below the other, window by window; rows likewise."""
    height, width = size
    windows = [images[:, :, y : y + height, x : x + width] for y, x in corners]
    if rows is None:
        return torch.cat(windows), None
    return torch.cat(windows), torch.cat([rows[:, y : y + height] for y, _ in corners])


def _view_of(images: Tensor, rows: Tensor | None, view: View) -> tuple[Tensor, Tensor | None]:
    """The network input of one view; rows follow the scale."""
    height, width = images.shape[-2:]
    size = max(round(height * view.scale), 1), max(round(width * view.scale), 1)
    if size != (height, width):
        images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        rows = scaled_rows(rows, size[0])
    return (images.flip(-1) if view.mirrored else images), rows


def _rename_plain_pass(pictures: dict[str, Tensor], scale: float) -> None:
    """The picture of the pass itself carries the scale its input had."""
    key = pred_key(scale)
    if pred_key(1.0) in pictures and key not in pictures:
        pictures[key] = pictures.pop(pred_key(1.0))


def _softmax_(scores: Tensor) -> Tensor:
    """Softmax over the classes, in the memory of `scores`."""
    scores -= scores.amax(1, keepdim=True)
    scores.exp_()
    scores /= scores.sum(1, keepdim=True)
    return scores


def _resized_parts(scores: Tensor, size: torch.Size, mirrored: bool) -> list[Callable[[], Tensor]]:
    """Makers of the score maps at `size`, a few classes each, so that one lives at a time."""

    def maker(part: Tensor) -> Callable[[], Tensor]:
        def make() -> Tensor:
            if part.shape[-2:] == size:
                full = part
            else:
                full = F.interpolate(part, size, mode="bilinear", align_corners=False)
            return full.flip(-1) if mirrored else full

        return make

    return [maker(part) for part in scores.split(CLASS_CHUNK, 1)]


def _accumulate_(total: Tensor, scores: Tensor, mirrored: bool, average: Average) -> None:
    """Add `scores`, resized to the size of `total`, as logits or as probabilities."""
    parts = _resized_parts(scores, total.shape[-2:], mirrored)
    targets = total.split(CLASS_CHUNK, 1)
    if average == "logits":
        for target, part in zip(targets, parts, strict=True):
            target += part()
        return
    log_sum: Tensor | None = None
    for part in parts:
        own = part().logsumexp(1, keepdim=True)
        log_sum = own if log_sum is None else torch.logaddexp(log_sum, own)
    assert log_sum is not None
    for target, part in zip(targets, parts, strict=True):
        target += (part() - log_sum).exp_()


def _mean_(total: Tensor, count: float | Tensor, average: Average) -> Tensor:
    """Divide in place; mean probabilities go back to scores as their logarithm."""
    total /= count
    if average == "probs":
        total.clamp_min_(torch.finfo(total.dtype).tiny).log_()
    return total
