# SPDX-License-Identifier: Apache-2.0
"""Inference procedures: each wraps a callable (images, rows) -> scores in another one.

    infer = flip(multi_scale(whole(net), (0.5, 1.0, 2.0)))
    scores = infer(images, None)["pred"]                    # (B, K, H, W) float32

Every procedure returns a dict whose "pred" holds scores (B, K, H, W), float32, such that
softmax(scores) are the class probabilities: mean logits, or the logarithm of mean
probabilities. All other entries are finished images of the last plain pass: `attn_*`
(B, 1, h, w) in 0..1, `pred_*` (B, h, w) uint8 class ids and `gate_*` (B, C, h) in 0..1. At
most two score maps of the size of a pass live at once, besides what the network itself holds
during its forward.

`scores_of(infer, Inputs(...))` also brings the scores to the size of the file, and takes the
images of other scales from the file itself, where a data set resizes images for the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.windows import Box, cut, window_boxes
from network.outputs import (
    ATTENTION_PREFIX,
    PRED,
    SCALE_PREFIX,
    at_scale,
    pred_key,
    scaled_rows,
)
from transforms.normalize import to_network

Infer = Callable[[Tensor, Tensor | None], dict[str, Tensor]]
Average = Literal["logits", "probs"]

Refine = Callable[[dict[str, Tensor]], Tensor]  # outputs of the network -> scores
Resizer = Callable[[Tensor, float], Tensor]  # images (B, H, W, 3) uint8 at another scale

OUTSIDE_ROW = -1.0  # row position of padding, as in transforms.sample
CLASS_CHUNK = 4  # classes resized at a time, so no third full-size map is made


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What evaluation knows of one batch.

    images (B, 3, H, W) and rows (B, H) as the network takes them. size: (height, width) of the
    wanted scores, by default that of `images`. originals: (B, height, width, 3) uint8, the images
    `images` were resized from; None if they were not resized.
    """

    images: Tensor
    rows: Tensor | None = None
    size: tuple[int, int] | None = None
    originals: Tensor | None = None


def scores_of(infer: Infer, inputs: Inputs) -> dict[str, Tensor]:
    """The outputs of `infer` with "pred" at the wanted size.

    The scores have the size of the network input before they are resized a second time,
    bilinear: a single resize from the size of the head would give other numbers.
    """
    if isinstance(infer, Beside):
        found = infer.maps(inputs.images, inputs.rows)
        return {**scores_of(infer.infer, inputs), **found}
    if isinstance(infer, Averaged):
        return infer.of(inputs)
    outputs = infer(inputs.images, inputs.rows)
    if inputs.size not in (None, tuple(outputs[PRED].shape[-2:])):
        outputs[PRED] = F.interpolate(
            outputs[PRED], inputs.size, mode="bilinear", align_corners=False
        )
    return outputs


def whole(net: nn.Module, return_all: bool = False, refine: Refine | None = None) -> Infer:
    """One forward pass of the whole image; with `return_all` also attention and scale maps.

    `refine` computes the scores from all outputs of the pass; without it they are `pred`.

    `net` must be in eval mode. Extra score maps of the network are reduced to class ids at
    once; the prediction itself is repeated as `pred_10x` beside them.
    """

    def infer(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        assert not net.training, "call net.eval() before inference"
        outputs = net(images, rows=rows, return_all=return_all)
        scores = (outputs[PRED] if refine is None else refine(outputs)).float()
        del outputs[PRED]
        maps = {}
        if return_all:
            for key in list(outputs):
                value = outputs.pop(key)
                if key.startswith(ATTENTION_PREFIX):
                    maps[key] = value
                elif key.startswith(SCALE_PREFIX):
                    maps[key] = class_ids(value)
            maps.setdefault(pred_key(1.0), class_ids(scores))
        return {PRED: scores, **maps}

    return infer


class Beside:
    """`infer`, whose results also hold what `images(images, rows)` returns, which is no scores."""

    def __init__(self, infer: Infer, maps: Infer) -> None:
        self.infer, self.maps = infer, maps

    def __call__(self, images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        found = self.maps(images, rows)
        return {**self.infer(images, rows), **found}


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
    """Mean of the scores of several views, each brought to the size of the wanted scores.

    One sum for all views: flip and multi_scale around each other merge into one Averaged, so
    together they need no more memory than alone. `resize` makes the input of another scale from the
    original images; without it, or without originals, the input is resized.
    """

    def __init__(
        self,
        infer: Infer,
        views: Sequence[View],
        average: Average,
        resize: Resizer | None = None,
    ) -> None:
        self.infer, self.views, self.average = infer, tuple(views), average
        self.resize = resize

    def __call__(self, images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        return self.of(Inputs(images=images, rows=rows))

    def of(self, inputs: Inputs) -> dict[str, Tensor]:
        """Mean scores of one batch at `inputs.size`."""
        size = inputs.size or inputs.images.shape[-2:]
        total: Tensor | None = None
        maps: dict[str, Tensor] = {}
        scaled, scale = (inputs.images, inputs.rows), 1.0
        for view in self.views:
            if view.scale != scale:
                scaled, scale = self._at(inputs, view.scale), view.scale
            images, rows = scaled
            with at_scale(scale):
                maps = self.infer(images.flip(-1) if view.mirrored else images, rows)
            scores = maps.pop(PRED)
            if total is None:
                total = scores.new_zeros(*scores.shape[:2], *size)
            accumulate_(total, scores, view.mirrored, self.average)
            del scores
        assert total is not None
        _rename_plain_pass(maps, self.views[-1].scale)
        return {PRED: mean_(total, len(self.views), self.average), **maps}

    def _at(self, inputs: Inputs, scale: float) -> tuple[Tensor, Tensor | None]:
        """Network input of one scale; rows follow."""
        if scale == 1.0:
            return inputs.images, inputs.rows
        if self.resize is None or inputs.originals is None:
            return _resized_input(inputs.images, inputs.rows, scale)
        images = to_network(self.resize(inputs.originals, scale).to(inputs.images.device))
        return images, scaled_rows(inputs.rows, images.shape[-2])


def _views_of(infer: Infer, average: Average) -> tuple[Infer, tuple[View, ...], Resizer | None]:
    """What another averaging procedure around `infer` starts from."""
    if isinstance(infer, Averaged) and infer.average == average:
        return infer.infer, infer.views, infer.resize
    return infer, (View(),), None


def flip(infer: Infer, average: Average = "logits") -> Infer:
    """Mean of the scores of the mirrored image, mirrored back, and of the image itself.

    Maps are those of the image itself. ValueError when `infer` already flips.
    """
    inner, views, resize = _views_of(infer, average)
    if any(view.mirrored for view in views):
        raise ValueError("the mirrored image is averaged already")
    both = [View(view.scale, mirrored) for view in views for mirrored in (True, False)]
    return Averaged(inner, both, average, resize)


def multi_scale(
    infer: Infer,
    scales: Sequence[float],
    average: Average = "logits",
    resize: Resizer | None = None,
) -> Infer:
    """Mean of the scores over input scales, each resized back to the size of the image.

    The input of scale s has round(size * s) pixels per side, bilinear; with `resize` it is made
    from the image as it was read (`Inputs.originals`). Attention and scale maps are those of the
    last scale. ValueError unless every scale is positive.
    """
    if not scales or any(scale <= 0 for scale in scales):
        raise ValueError(f"scales {tuple(scales)}: one or more positive numbers wanted")
    inner, views, _ = _views_of(infer, average)
    if any(view.scale != 1.0 for view in views):  # scales of scales: rounded one by one
        inner, views = infer, (View(),)
    every = [View(scale, view.mirrored) for scale in scales for view in views]
    return Averaged(inner, every, average, resize)


def slide(
    infer: Infer,
    crop: tuple[int, int],
    stride: tuple[int, int],
    batch_windows: int = 4,
    average: Average = "logits",
) -> Infer:
    """Windows of `crop` pixels (height, width), each `stride` pixels after the previous one.

    The last window of a row or column is moved inwards, and every pixel is divided by the
    number of windows that really saw it. An axis shorter than the crop gets one window of its
    own length. `batch_windows` windows of each image go through the network together. Only
    "pred" is returned. ValueError for a stride that would leave gaps.
    """
    check_stride(crop, stride)

    def windowed(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        batch, _, height, width = images.shape
        total: Tensor | None = None
        seen = images.new_zeros(height, width, dtype=torch.float32)
        boxes = window_boxes((height, width), crop, stride)
        for box, window in each_window(infer, (images, rows), boxes, batch_windows, average):
            if total is None:
                total = window.new_zeros(batch, window.shape[1], height, width)
            total[:, :, box.top : box.bottom, box.left : box.right] += window
            seen[box.top : box.bottom, box.left : box.right] += 1
        assert total is not None
        return {PRED: mean_(total, seen, average)}

    return windowed


def each_window(
    infer: Infer,
    inputs: tuple[Tensor, Tensor | None],
    boxes: Sequence[Box],
    batch_windows: int,
    average: Average,
) -> Iterator[tuple[Box, Tensor]]:
    """The scores (B, K, h, w) of every window of images (B, 3, H, W) and rows (B, H), in order.

    They are what is averaged: logits, or probabilities.
    """
    batch = len(inputs[0])
    for first in range(0, len(boxes), batch_windows):
        part = boxes[first : first + batch_windows]
        scores = infer(*cut(*inputs, part))[PRED]
        if average == "probs":
            scores = _softmax_(scores)
        yield from zip(part, scores.split(batch), strict=True)


def check_stride(crop: tuple[int, int], stride: tuple[int, int]) -> None:
    """Raise ValueError unless windows of `crop` at every `stride` pixels cover an image."""
    if any(not 0 < step <= side for side, step in zip(crop, stride, strict=True)):
        raise ValueError(
            f"--slide_stride {stride[0]},{stride[1]} must lie between 1 and "
            f"--slide_crop {crop[0]},{crop[1]}: windows further apart leave gaps"
        )


def without_rows(infer: Infer) -> Infer:
    """`infer` for a network that was trained without row positions."""

    def blind(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        return infer(images, None)

    return blind


def padded(infer: Infer, least: tuple[int, int]) -> Infer:
    """Images smaller than `least` (height, width) get zeros at the right and at the bottom.

    Scores are cut back to the image, before any averaging around this one. Only "pred" is
    returned.
    """

    def on_canvas(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        height, width = images.shape[-2:]
        below, right = max(least[0] - height, 0), max(least[1] - width, 0)
        if below or right:
            images = F.pad(images, (0, right, 0, below))
            rows = None if rows is None else F.pad(rows, (0, below), value=OUTSIDE_ROW)
        return {PRED: infer(images, rows)[PRED][..., :height, :width]}

    return on_canvas


def _resized_input(
    images: Tensor, rows: Tensor | None, scale: float
) -> tuple[Tensor, Tensor | None]:
    """Network input of one scale, bilinear from that of scale 1."""
    height, width = images.shape[-2:]
    size = max(round(height * scale), 1), max(round(width * scale), 1)
    if size == (height, width):
        return images, rows
    images = F.interpolate(images, size, mode="bilinear", align_corners=False)
    return images, scaled_rows(rows, size[0])


def _rename_plain_pass(maps: dict[str, Tensor], scale: float) -> None:
    """The image of the pass itself carries the scale its input had."""
    key = pred_key(scale)
    if pred_key(1.0) in maps and key not in maps:
        maps[key] = maps.pop(pred_key(1.0))


def _softmax_(scores: Tensor) -> Tensor:
    """Softmax over the classes, in the memory of `scores`."""
    scores -= scores.amax(1, keepdim=True)
    scores.exp_()
    scores /= scores.sum(1, keepdim=True)
    return scores


def _resized_parts(scores: Tensor, size: torch.Size, mirrored: bool) -> list[Callable[[], Tensor]]:
    """Functions that make the score maps at `size`, a few classes each, so one lives at a time."""

    def maker(part: Tensor) -> Callable[[], Tensor]:
        def make() -> Tensor:
            if part.shape[-2:] == size:
                full = part
            else:
                full = F.interpolate(part, size, mode="bilinear", align_corners=False)
            return full.flip(-1) if mirrored else full

        return make

    return [maker(part) for part in scores.split(CLASS_CHUNK, 1)]


def accumulate_(total: Tensor, scores: Tensor, mirrored: bool, average: Average) -> None:
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


def mean_(total: Tensor, count: float | Tensor, average: Average) -> Tensor:
    """Divide in place; mean probabilities go back to scores as their logarithm."""
    total /= count
    if average == "probs":
        total.clamp_min_(torch.finfo(total.dtype).tiny).log_()
    return total
