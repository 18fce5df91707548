# SPDX-License-Identifier: Apache-2.0
"""Windows of an image: where they begin along an axis, and cutting them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Box:
    """A window in pixels: rows top..bottom, columns left..right, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """First pixels of windows that cover 0..length; the last one ends exactly at `length`.

    window: at most `length` pixels.
    """
    count = max(-(-(length - window) // stride), 0) + 1
    return [min(index * stride, length - window) for index in range(count)]


def window_boxes(
    size: tuple[int, int], crop: tuple[int, int], stride: tuple[int, int]
) -> list[Box]:
    """The windows of an image of `size` (H, W), row by row; on a shorter axis they are as long."""
    height, width = min(crop[0], size[0]), min(crop[1], size[1])
    tops = window_starts(size[0], height, stride[0])
    lefts = window_starts(size[1], width, stride[1])
    return [Box(top, left, top + height, left + width) for top in tops for left in lefts]


def cut(images: Tensor, rows: Tensor | None, boxes: Sequence[Box]) -> tuple[Tensor, Tensor | None]:
    """The windows of all images as one batch, window by window, and the rows they show.

    images: (B, 3, H, W); rows: (B, H). The boxes are of one size.
    """
    windows = [images[:, :, box.top : box.bottom, box.left : box.right] for box in boxes]
    if rows is None:
        return torch.cat(windows), None
    return torch.cat(windows), torch.cat([rows[:, box.top : box.bottom] for box in boxes])
