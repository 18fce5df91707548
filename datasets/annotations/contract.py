# SPDX-License-Identifier: Apache-2.0
"""What the readers of annotation files give, whatever tool wrote them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datasets.base import DataError
from runtime.limits import counted

Ring = npt.NDArray[np.float64]  # corners (N, 2) as x, y; (0, 0) is the corner of the first pixel
Mask = npt.NDArray[np.bool_]


FARTHEST = 1e7  # pixels: no image has such a side
MAX_CORNERS = 4096  # of a round shape


class Fault(Exception):
    """One object or image that is not as it should be; the message is the rest of a line."""


@dataclass(kw_only=True)
class Shape:
    """A region of one class.

    where: how messages call it. rings: polygons whose union is the region. mask: the region as
    pixels instead, its first pixel at `corner` (x, y). order: lower ones are drawn first.
    """

    label: str
    where: str
    rings: list[Ring] = field(default_factory=list)
    mask: Mask | None = None
    corner: tuple[int, int] = (0, 0)
    order: tuple[float, ...] = ()

    @property
    def area(self) -> float:
        """In pixels; that of polygons as if they did not overlap."""
        if self.mask is not None:
            return float(self.mask.sum())
        return sum(_area(ring) for ring in self.rings)

    def corners(self) -> Ring:
        """All corners of its polygons, or of its mask, (N, 2)."""
        points = [*self.rings, np.empty((0, 2))]
        if self.mask is not None:
            (height, width), (x, y) = self.mask.shape, self.corner
            points.append(np.array([[x, y], [x + width, y + height]], float))
        return np.concatenate(points)


def _area(ring: Ring) -> float:
    x, y = ring.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


@dataclass(kw_only=True)
class Picture:
    """An annotated image.

    file: as the annotations name it. near: folders where it may lie besides the one that the user
    names. size: (H, W) as annotated, None where that is not said. source: the file that says so.
    """

    file: str
    source: Path
    size: tuple[int, int] | None = None
    near: tuple[Path, ...] = ()
    shapes: list[Shape] = field(default_factory=list)


@dataclass(kw_only=True)
class Annotations:
    """A whole source.

    classes: in the order of their ids. faults: one line each. without_area: points and lines, which
    are no regions, by their kind.
    """

    classes: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    without_area: Counter[str] = field(default_factory=Counter)


def read_json(path: Path) -> Any:
    """The content of a JSON file; DataError in one line."""
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error


def ring(values: object) -> Ring:
    """Corners from pairs of numbers; Fault unless they are at least three finite points."""
    try:
        points = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise Fault("its points are not pairs of numbers") from None
    if points.ndim != 2 or points.shape[1] != 2:
        raise Fault("its points are not pairs of numbers")
    if not np.isfinite(points).all():
        raise Fault("a coordinate of it is not finite")
    if np.abs(points).max(initial=0) > FARTHEST:
        raise Fault(f"a coordinate of it is {np.abs(points).max():g}, which is beyond any image")
    if len(points) < 3:
        raise Fault(f"a polygon has {counted(len(points), 'corner')}, at least 3 are needed")
    return points


def rectangle(left: float, top: float, right: float, bottom: float) -> Ring:
    """The four corners of a box."""
    return ring([[left, top], [right, top], [right, bottom], [left, bottom]])


def ellipse(x: float, y: float, radius_x: float, radius_y: float) -> Ring:
    """A polygon that stays within a hundredth of a pixel of an ellipse around (x, y)."""
    wanted = np.pi * np.sqrt(50 * max(radius_x, radius_y, 0.1))
    count = int(np.ceil(np.clip(wanted, 16, MAX_CORNERS)))
    angles = np.arange(count) * (2 * np.pi / count)
    return ring(np.stack([x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)], 1))


def turned(points: Ring, degrees: float) -> Ring:
    """`points` turned around their middle, clockwise as seen in the image."""
    middle = (points.min(0) + points.max(0)) / 2
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (points - middle) @ np.array([[cos, sin], [-sin, cos]]) + middle
