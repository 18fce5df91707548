# SPDX-License-Identifier: Apache-2.0
"""Bilinear resizing, the only kind the networks use."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.errors import UserError

Size = tuple[int, int]

LARGEST_DENOMINATOR = 1 << 10  # of a scale that is taken as a ratio of whole numbers


def size_of(image: Tensor) -> Size:
    """(H, W) of a (B, C, H, W) tensor."""
    return image.shape[-2], image.shape[-1]


def scaled_size(size: Size, factor: float) -> Size:
    """floor(size * factor), at least one pixel."""
    if torch.compiler.is_exporting():
        height, width = (_scaled_unknown(side, factor) for side in size)
        return height, width
    height, width = (max(1, math.floor(side * factor)) for side in size)
    return height, width


def _scaled_unknown(side: int, factor: float) -> int:
    """The same for a side that may be unknown: whole numbers are easier to reason about."""
    ratio = Fraction(factor)
    if ratio.denominator > LARGEST_DENOMINATOR:
        return math.floor(side * factor)
    return side * ratio.numerator // ratio.denominator


def parts_of(side: int, length: int) -> int:
    """How many parts of `length` cover `side`: the quotient, rounded up.

    Never by way of negative numbers, whose quotients ONNX rounds the other way.
    """
    return (side + length - 1) // length


def surely(condition: bool) -> bool:
    """Whether `condition` holds; while a graph is made, only if it does for every size.

    The sizes of a graph for images of any size are unknown, and asking for more than that about
    them would tie it to the size of the image that it is made with.
    """
    if torch.compiler.is_exporting():
        from torch.fx.experimental.symbolic_shapes import statically_known_true

        return statically_known_true(condition)
    return condition


def same_size(one: Size, other: Size) -> bool:
    """Whether two sizes are surely equal."""
    return surely(one[0] == other[0]) and surely(one[1] == other[1])


@contextlib.contextmanager
def at_scale(scale: float) -> Iterator[None]:
    """UserErrors about a copy of an image say which copy; that at scale 1 is the image."""
    try:
        yield
    except UserError as error:
        if scale == 1:
            raise
        raise UserError(f"at scale {scale:g} {error}") from error


def resize(image: Tensor, size: Size, align_corners: bool = False) -> Tensor:
    """(B, C, H, W) -> (B, C, *size), sampled with the ratio of the two sizes.

    The same tensor comes back when it has that size already.
    """
    if same_size(size_of(image), size):
        return image
    return F.interpolate(image, size=size, mode="bilinear", align_corners=align_corners)


def concat_resized(maps: Sequence[Tensor], align_corners: bool = False) -> Tensor:
    """Maps (B, C_i, h_i, w_i) at the size of the first, in one: (B, sum C_i, h_0, w_0)."""
    size = size_of(maps[0])
    return torch.cat([resize(x, size, align_corners) for x in maps], dim=1)
