# SPDX-License-Identifier: Apache-2.0
"""Means over windows, given out block by block: the score map of a whole image never exists.

    for box, scores in in_blocks(infer, (images, rows), crop, stride):
        ids[:, box.top : box.bottom, box.left : box.right] = scores.argmax(1)

The numbers are those of `predict.slide`, bit by bit: windows are added in the same order. A pixel
is given out once the last window that sees it has been added, so what is held is one window and
the lower overlap of a row of windows.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from engine.predict import Average, Infer, check_stride, each_window, mean_
from engine.windows import Box, window_boxes


def in_blocks(
    infer: Infer,
    inputs: tuple[Tensor, Tensor | None],
    crop: tuple[int, int],
    stride: tuple[int, int],
    *,
    batch_windows: int = 1,
    average: Average = "logits",
) -> Iterator[tuple[Box, Tensor]]:
    """Parts of the image and their scores (B, K, h, w), every pixel once.

    inputs: images (B, 3, H, W) and rows (B, H). ValueError for a stride that would leave gaps.
    """
    check_stride(crop, stride)
    size = (inputs[0].shape[-2], inputs[0].shape[-1])
    boxes = window_boxes(size, crop, stride)
    sums: _Sums | None = None
    for box, window in each_window(infer, inputs, boxes, batch_windows, average):
        if sums is None:
            sums = _Sums(window, size, boxes)
        done, total, seen = sums.add(box, window)
        yield done, mean_(total, seen, average)


class _Sums:
    """Sums over windows that arrive row by row, and how many windows saw each pixel.

    `open` is the sum under the last window, `carry` that of the rows which the windows of the next
    row see again.
    """

    def __init__(self, window: Tensor, size: tuple[int, int], boxes: list[Box]) -> None:
        first = boxes[0]
        self.height, self.width = first.bottom - first.top, first.right - first.left
        tops = sorted({box.top for box in boxes})
        lefts = sorted({box.left for box in boxes})
        self.next_top = dict(zip(tops, [*tops[1:], size[0]], strict=True))
        self.next_left = dict(zip(lefts, [*lefts[1:], size[1]], strict=True))
        self.rows = _counts(window, tops, self.height, size[0])
        self.columns = _counts(window, lefts, self.width, size[1])
        kept = max((self.height - (self.next_top[top] - top) for top in tops[:-1]), default=0)
        self.carry = window.new_zeros(*window.shape[:2], kept, size[1])
        self.seen_rows = 0  # end of the rows that hold sums in `carry`
        self.open = window

    def add(self, box: Box, window: Tensor) -> tuple[Box, Tensor, Tensor]:
        """Add one window: the part that no later one sees, its sum, and its number of windows."""
        self._open(box, window)
        done = Box(box.top, box.left, self.next_top[box.top], self.next_left[box.left])
        height, width = done.bottom - done.top, done.right - done.left
        total, self.open = self.open[..., :width], self.open[..., width:]
        if height < self.height:
            self.carry[:, :, : self.height - height, done.left : done.right] = total[:, :, height:]
        if done.right == self.columns.shape[0]:  # the end of a row of windows
            self.seen_rows = box.bottom
        rows, columns = self.rows[done.top : done.bottom], self.columns[done.left : done.right]
        return done, total[:, :, :height], rows[:, None] * columns

    def _open(self, box: Box, window: Tensor) -> None:
        """Let `open` be the sum under `box`, with its window."""
        begun = 0 if box.left == 0 else self.open.shape[-1]
        fresh = window.new_zeros(*window.shape[:3], self.width - begun)
        above = max(self.seen_rows - box.top, 0)
        if above:
            fresh[:, :, :above] = self.carry[:, :, :above, box.left + begun : box.right]
        self.open = torch.cat([self.open, fresh], -1) if begun else fresh
        self.open += window


def _counts(like: Tensor, starts: list[int], length: int, size: int) -> Tensor:
    """How many windows along one axis see each of its `size` pixels."""
    counts = like.new_zeros(size, dtype=torch.float32)
    for start in starts:
        counts[start : start + length] += 1
    return counts
