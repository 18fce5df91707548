# SPDX-License-Identifier: Apache-2.0
"""Images as tiles of one size that are computed by themselves, and their maps put together."""

from __future__ import annotations

from torch import Tensor

from network.ops.resize import Size, size_of


def counted(images: Tensor, size: Size) -> Size:
    """Rows and columns of tiles of `size` in images whose sides are multiples of it."""
    height, width = size_of(images)
    assert height % size[0] == 0 and width % size[1] == 0
    return height // size[0], width // size[1]


def tiles(images: Tensor, size: Size) -> Tensor:
    """(B, C, H, W) -> (B * rows * columns, C, *size), image by image, row by row."""
    rows, columns = counted(images, size)
    cut = images.unflatten(3, (columns, size[1])).unflatten(2, (rows, size[0]))
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def joined(maps: Tensor, images: Tensor, size: Size) -> Tensor:
    """Maps (B * rows * columns, C, h, w) of `tiles(images, size)` -> (B, C, rows h, columns w)."""
    rows, columns = counted(images, size)
    cut = maps.unflatten(0, (len(images), rows, columns))
    return cut.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
