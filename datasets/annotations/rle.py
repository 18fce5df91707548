# SPDX-License-Identifier: Apache-2.0
"""Run lengths of masks, as COCO and CVAT write them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datasets.annotations.contract import Fault, Mask
from datasets.headers import MAX_PIXELS


def from_text(text: str) -> list[int]:
    """The run lengths in COCO's compressed text; Fault if it is none.

    A number is a series of letters from "0" on, five bits each, the lowest first; bit 6 says that
    more follow, bit 5 of the last one is the sign. From the fourth on, numbers are differences to
    the run of the same kind before.
    """
    counts: list[int] = []
    value, shift = 0, 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise Fault(f"its run lengths hold {letter!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise Fault("its run lengths end inside a number")
    return counts


def decoded(counts: Sequence[object], height: int, width: int, *, by_column: bool) -> Mask:
    """The mask (H, W) of runs that lie outside and inside in turn; Fault if they do not fill it."""
    whole = [count for count in counts if isinstance(count, int) and count >= 0]
    if len(whole) < len(counts):
        raise Fault("its run lengths are not whole numbers of at least 0")
    if sum(whole) != height * width or height < 1 or sum(whole) > MAX_PIXELS:
        raise Fault(f"its run lengths add up to {sum(whole)}, {width}x{height} are wanted")
    runs = np.array(whole, np.int64)
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T if by_column else flat.reshape(height, width)
