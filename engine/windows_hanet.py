# SPDX-License-Identifier: Apache-2.0
"""HANet's inference: resized 8-bit images, whole or in windows that grow with the scale.

    infer = hanet_sliding(whole(net), (0.5, 1.0, 2.0), tile=(1024, 1024), overlap=1 / 3)
    scores = infer(images, rows)["pred"]

It differs from `predict.multi_scale(predict.slide(...))` in three ways that affect the scores: the
8-bit image is resized, with Pillow's filters; a window has the side of the tile times
max(scale, 1); and the first window of an axis starts at a multiple of the stride that is
rounded up. Row positions follow: each window sees the rows it shows.

Source: HANet (arXiv 2003.05128), evaluation protocol of the published networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from engine.predict import Average, Infer, accumulate_, mean_
from engine.windows import Box, cut, window_starts
from network.outputs import PRED, at_scale
from runtime.errors import UserError
from transforms.normalize import denormalize, to_tensor
from transforms.resample import Filter, resample_image, resample_rows, whole

PUBLISHED_TILE = (1024, 1024)  # pixels at scale 1 and below
OneView = Callable[[Tensor, Tensor | None], Tensor]  # a scaled image, its rows -> scores


def axis_windows(length: int, side: int, overlap: float) -> list[tuple[int, int]]:
    """First and end pixel of the windows along an axis of `length` pixels.

    The stride is ceil(side * (1 - overlap)); the last window is moved back inside, and an axis
    shorter than `side` gets one window of its own length.
    """
    size, stride = min(side, length), math.ceil(side * (1 - overlap))
    return [(start, start + size) for start in window_starts(length, size, stride)]


def window_boxes(size: tuple[int, int], tile: tuple[int, int], overlap: float) -> list[Box]:
    """Windows of `tile` (H, W) over an image of `size` (H, W), column by column."""
    rows = axis_windows(size[0], tile[0], overlap)
    columns = axis_windows(size[1], tile[1], overlap)
    return [Box(top, left, bottom, right) for left, right in columns for top, bottom in rows]


def true_count(boxes: Sequence[Box], size: tuple[int, int]) -> Tensor:
    """Number of windows that saw each pixel: (1, H, W) float32."""
    count = torch.zeros(1, *size)
    for box in boxes:
        count[0, box.top : box.bottom, box.left : box.right] += 1
    return count


def official_count(boxes: Sequence[Box], size: tuple[int, int], num_classes: int) -> Tensor:
    """The published divisor (K, H, 1), whose axes were exchanged.

    Class c, row r is divided by the number of windows with top <= c < bottom and
    left <= r < right, whatever the column. Raises UserError where that would divide by zero.
    """
    count = torch.zeros(num_classes, size[0], 1)
    for box in boxes:
        count[box.top : box.bottom, box.left : box.right] += 1
    if not bool(count.all()):
        raise UserError(
            f"--sliding_official divides by zero for an image of {size[1]}x{size[0]} (width x "
            f"height) and {num_classes} classes; leave it out, the true count has no such limit"
        )
    return count


def _tiled(
    infer: Infer, tile: tuple[int, int], overlap: float, batch_windows: int, official: bool
) -> OneView:
    """Scores of one scaled image: logits summed over its windows, divided by their number."""

    def one_view(image: Tensor, rows: Tensor | None) -> Tensor:
        size = image.shape[-2], image.shape[-1]
        boxes = window_boxes(size, tile, overlap)
        total: Tensor | None = None
        for first in range(0, len(boxes), batch_windows):
            part = boxes[first : first + batch_windows]
            scores = infer(*cut(image, rows, part))[PRED]
            if total is None:
                total = scores.new_zeros(1, scores.shape[1], *size)
            for box, window in zip(part, scores, strict=True):
                total[0, :, box.top : box.bottom, box.left : box.right] += window
        assert total is not None
        num_classes = total.shape[1]
        count = official_count(boxes, size, num_classes) if official else true_count(boxes, size)
        return total.div_(count.to(total.device))

    return one_view


def one_pass(infer: Infer) -> OneView:
    """Scores of one scaled image in a single pass."""

    def one_view(image: Tensor, rows: Tensor | None) -> Tensor:
        return infer(image, rows)[PRED]

    return one_view


class ScaledImages:
    """Mean of the scores of resized and mirrored images, each image of a batch separately.

    `views` has one entry per scale: the scale, and a function that gives the scores of an image of
    that size. Images are restored from the network input and resized with 8 bits, so the input must
    be a normalised 8-bit image, as given by all loaders.
    """

    def __init__(
        self,
        views: Sequence[tuple[float, OneView]],
        *,
        flip: bool,
        kernel: Filter,
        average: Average,
    ) -> None:
        scales = tuple(scale for scale, _ in views)
        if not scales or any(scale <= 0 for scale in scales):
            raise ValueError(f"scales {scales}: one or more positive numbers wanted")
        self.views, self.flip = tuple(views), flip
        self.kernel: Filter = kernel
        self.average: Average = average

    def __call__(self, images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        """Scores (B, K, H, W) at the size of `images`, or at that of `size_of`."""
        each = [
            self._of_one(images[index : index + 1], None if rows is None else rows[index])
            for index in range(len(images))
        ]
        return {PRED: each[0] if len(each) == 1 else torch.cat(each)}

    def size_of(self, image: Tensor) -> tuple[int, int]:
        """(H, W) at which the scores of an image (1, 3, H, W) are averaged and returned."""
        return image.shape[-2], image.shape[-1]

    def _of_one(self, image: Tensor, rows: Tensor | None) -> Tensor:
        size = self.size_of(image)
        pixels = denormalize(image[0])
        total: Tensor | None = None
        for scale, one_view in self.views:
            height, width = pixels.shape[:2]
            window = whole(max(int(height * scale), 1), max(int(width * scale), 1))
            scaled = to_tensor(resample_image(pixels, window, self.kernel, "pillow"))[None]
            scaled = scaled.to(image.device)
            own_rows = None
            if rows is not None:
                positions = torch.from_numpy(resample_rows(rows.cpu().numpy(), window))
                own_rows = positions[None].to(image.device)
            for mirrored in (False, True) if self.flip else (False,):
                view = scaled.flip(-1) if mirrored else scaled
                with at_scale(scale):
                    scores = one_view(view, own_rows)
                if total is None:
                    total = scores.new_zeros(1, scores.shape[1], *size)
                accumulate_(total, scores, mirrored, self.average)
                del scores
        assert total is not None
        return mean_(total, len(self.views) * (2 if self.flip else 1), self.average)


def hanet_sliding(
    infer: Infer,
    scales: Sequence[float] = (0.5, 1.0, 2.0),
    *,
    tile: tuple[int, int] = PUBLISHED_TILE,
    overlap: float = 1 / 3,
    flip: bool = True,
    batch_windows: int = 1,
    official: bool = False,
) -> Infer:
    """Mean logits over scales, mirrored images and overlapping windows.

    tile: (H, W) pixels at scale 1 and below. overlap: share of a window, 0..1. batch_windows:
    windows that go through the network together. official: divide by the published count, see
    `official_count`. Raises ValueError for an overlap outside 0..1 (1 excluded).
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap {overlap:g} is outside 0..1, 1 excluded")
    views = []
    for scale in scales:
        grown = int(tile[0] * max(scale, 1.0)), int(tile[1] * max(scale, 1.0))
        views.append((scale, _tiled(infer, grown, overlap, batch_windows, official)))
    return ScaledImages(views, flip=flip, kernel="bilinear", average="logits")


def hanet_pooling(
    infer: Infer, scales: Sequence[float] = (0.5, 1.0, 2.0), *, flip: bool = True
) -> Infer:
    """Mean probabilities of whole images over scales and mirrored images.

    # differs: the published size is 1024 x 2048 whatever the image.
    """
    views = [(scale, one_pass(infer)) for scale in scales]
    return ScaledImages(views, flip=flip, kernel="bicubic", average="probs")
