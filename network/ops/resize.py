# SPDX-License-Identifier: Apache-2.0
"""Bilinear resizing, the only kind the networks use."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]


def size_of(image: Tensor) -> Size:
    """(H, W) of a (B, C, H, W) tensor."""
    return image.shape[-2], image.shape[-1]


def scaled_size(size: Size, factor: float) -> Size:
    """floor(size * factor), at least one pixel."""
    height, width = (max(1, math.floor(side * factor)) for side in size)
    return height, width


def resize(image: Tensor, size: Size, align_corners: bool = False) -> Tensor:
    """(B, C, H, W) -> (B, C, *size), sampled with the ratio of the two sizes.

    The same tensor comes back when it has that size already.
    """
    if size_of(image) == tuple(size):
        return image
    return F.interpolate(image, size=size, mode="bilinear", align_corners=align_corners)


def resize_chain(image: Tensor, sizes: Sequence[Size], align_corners: bool = False) -> Tensor:
    """`resize` to each size in turn; two bilinear resizes are not one to the last size."""
    for size in sizes:
        image = resize(image, size, align_corners)
    return image
