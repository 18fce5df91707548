# SPDX-License-Identifier: Apache-2.0
"""Shapes to label maps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from datasets.annotations.contract import Mask, Picture, Ring, Shape

SLACK = 1.0  # pixels that a corner may lie outside of the image: tools draw up to the border


def filled(corners: Ring, height: int, width: int) -> Mask:
    """The pixels (H, W) whose centres lie inside a polygon, by the even-odd rule.

    A centre on the edge between two polygons belongs to one of them alone, so neighbours leave no
    gap and do not overlap. What lies outside of the image is cut off.
    """
    toggles = np.zeros((height, width + 1), bool)
    ends = np.roll(corners, -1, 0)
    for (x0, y0), (x1, y1) in zip(corners, ends, strict=True):
        if y0 == y1:
            continue
        low, high = sorted((y0, y1))
        first, stop = np.clip(np.ceil(np.array([low, high]) - 0.5), 0, height).astype(int)
        rows = np.arange(first, stop)
        crossing = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
        toggles[rows, columns] ^= True
    inside: Mask = np.logical_xor.accumulate(toggles[:, :-1], axis=1)
    return inside


def region(shape: Shape, height: int, width: int) -> Mask:
    """The pixels (H, W) of a shape, cut off at the borders of the image."""
    found = np.zeros((height, width), bool)
    for corners in shape.rings:  # a union: parts that overlap are no holes
        found |= filled(corners, height, width)
    if shape.mask is not None:
        x, y = shape.corner
        rows, columns = shape.mask.shape
        top, left = max(y, 0), max(x, 0)
        bottom, right = min(y + rows, height), min(x + columns, width)
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
        label[region(shape, *size)] = ids[shape.label]
    return label


def outside(shape: Shape, height: int, width: int) -> str:
    """Where a shape leaves the image by more than SLACK, "" where it does not."""
    points = shape.corners()
    low, high = -SLACK, np.array([width, height]) + SLACK
    wrong = points[((points < low) | (points > high)).any(1)]
    return "" if not len(wrong) else f"({wrong[0][0]:g}, {wrong[0][1]:g})"
