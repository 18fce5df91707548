# SPDX-License-Identifier: Apache-2.0
"""Shapes to label maps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from datasets.annotations.contract import Mask, Picture, Ring, Shape

SLACK = 1.0  # pixels that a corner may lie outside of the image: tools draw up to the border


def filled(corners: Ring, rows: slice, columns: slice) -> Mask:
    """The pixels of a window of the image whose centres lie inside a polygon, by the even-odd rule.

    A centre on the edge between two polygons belongs to one of them alone, so neighbours leave no
    gap and do not overlap: an edge is cut the same way whatever polygon it belongs to.
    """
    height, width = rows.stop - rows.start, columns.stop - columns.start
    toggles = np.zeros((height, width + 1), bool)
    for one, other in zip(corners, np.roll(corners, -1, 0), strict=True):
        (x0, y0), (x1, y1) = (one, other) if one[1] < other[1] else (other, one)
        if y0 == y1:
            continue
        first, stop = np.clip(np.ceil(np.array([y0, y1]) - 0.5), rows.start, rows.stop).astype(int)
        cut = np.arange(first, stop)
        crossing = x0 + (cut + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        places = np.clip(np.ceil(crossing - 0.5), columns.start, columns.stop).astype(int)
        toggles[cut - rows.start, places - columns.start] ^= True
    inside: Mask = np.logical_xor.accumulate(toggles[:, :-1], axis=1)
    return inside


def window(shape: Shape, height: int, width: int) -> tuple[slice, slice]:
    """The rows and columns of the image that a shape may reach; empty ones where it reaches none.

    Drawing there alone takes time by the size of the shape, not of the image.
    """
    points = shape.corners()
    low, high = np.floor(points.min(0)).astype(int), np.ceil(points.max(0)).astype(int)
    left, top = np.clip(low, 0, (width, height))
    right, bottom = np.clip(high, 0, (width, height))
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def region(shape: Shape, rows: slice, columns: slice) -> Mask:
    """The pixels of a shape in a window of the image, cut off at its borders."""
    height, width = rows.stop - rows.start, columns.stop - columns.start
    found = np.zeros((height, width), bool)
    for corners in shape.rings:  # a union: parts that overlap are no holes
        found |= filled(corners, rows, columns)
    if shape.mask is not None:
        x, y = shape.corner[0] - columns.start, shape.corner[1] - rows.start
        tall, wide = shape.mask.shape
        top, left = max(y, 0), max(x, 0)
        bottom, right = min(y + tall, height), min(x + wide, width)
        if bottom > top and right > left:
            part = shape.mask[top - y : bottom - y, left - x : right - x]
            found[top:bottom, left:right] |= part
    return found


def drawn(
    picture: Picture, ids: Mapping[str, int], blank: int, size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """The label map (H, W): `blank`, and the shapes over it in their order; later ones cover."""
    label = np.full(size, blank, np.uint8)
    for shape in sorted(picture.shapes, key=lambda each: each.order):  # stable: else as in the file
        rows, columns = window(shape, *size)
        label[rows, columns][region(shape, rows, columns)] = ids[shape.label]
    return label


def outside(shape: Shape, height: int, width: int) -> str:
    """Where a shape leaves the image by more than SLACK, "" where it does not."""
    points = shape.corners()
    low, high = -SLACK, np.array([width, height]) + SLACK
    wrong = points[((points < low) | (points > high)).any(1)]
    return "" if not len(wrong) else f"({wrong[0][0]:g}, {wrong[0][1]:g})"
