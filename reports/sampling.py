# SPDX-License-Identifier: Apache-2.0
"""Images of deformable attention and of predicted boundary directions, from plain arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating[Any]]

LEVEL_COLOURS = ((255, 176, 0), (220, 38, 127), (100, 143, 255))  # safe for colour blindness
QUERY_COLOUR, MASK_COLOUR, ARROW_COLOUR = (255, 255, 255), (220, 38, 127), (255, 255, 0)
SHORTEST = 480  # pixels; smaller images are enlarged so that points can be told apart
FADED = 0.45  # brightness of the image below the points
LARGEST_RADIUS = 0.012  # of the image's longer side, of the point with the largest weight
RIM_COLOUR = (0, 0, 0)  # around each point, so that neighbours can be told apart
GAP = 8  # pixels between panels
SHIFT = 4  # bits of a pixel's fraction that OpenCV draws with


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Where one query looks in one decoder layer, and how much.

    query (x, y) and places (heads, levels, points, 2) in 0..1 of the image, or outside;
    weights (heads, levels, points), whose sum over levels and points is 1 for every head.
    """

    query: tuple[float, float]
    places: Floats
    weights: Floats

    def level_shares(self) -> list[float]:
        """The share of the whole weight that each level has; the sum is 1."""
        return [float(share) for share in self.weights.sum((0, 2)) / len(self.weights)]

    def outside(self) -> float:
        """Share of the weight on points that lie outside the image, where everything is zero."""
        beyond = ((self.places < 0) | (self.places > 1)).any(-1)
        return float(self.weights[beyond].sum() / len(self.weights))


def enlarged(image: Picture) -> Picture:
    """The image, enlarged by a whole factor until its shorter side has `SHORTEST` pixels."""
    factor = max(1, round(SHORTEST / min(image.shape[:2])))
    size = image.shape[1] * factor, image.shape[0] * factor
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _at(place: Floats | tuple[float, float], image: Picture) -> tuple[int, int]:
    """(x, y) in 0..1 as OpenCV wants it; cell centres are at half pixels."""
    height, width = image.shape[:2]
    scale = 1 << SHIFT
    return round((place[0] * width - 0.5) * scale), round((place[1] * height - 0.5) * scale)


def draw_sampling(image: Picture, sampling: Sampling, size: tuple[int, int]) -> Picture:
    """The darkened image once per level, side by side, with the points of all heads on it.

    A level has a panel and a colour of its own, because points of several levels may coincide; area
    is weight, on one scale for all panels. The cross is the query. Points outside the image are not
    drawn. `size` (H, W): the part of `image` that is shown.
    """
    canvas = np.asarray(enlarged(image) * FADED, np.uint8)
    panels = []
    for level in range(sampling.weights.shape[1]):
        panel = _shown(_draw_level(canvas.copy(), sampling, level), image, size)
        panels += [np.full((panel.shape[0], GAP, 3), 255, np.uint8), panel]
    return np.concatenate(panels[1:], axis=1)


def _shown(canvas: Picture, image: Picture, size: tuple[int, int]) -> Picture:
    """The part of a canvas made from `image` that shows its first `size` (H, W) pixels."""
    factor = canvas.shape[0] // image.shape[0]
    return canvas[: size[0] * factor, : size[1] * factor]


def _draw_level(canvas: Picture, sampling: Sampling, level: int) -> Picture:
    """`canvas` with the points of one level and the query."""
    largest = LARGEST_RADIUS * max(canvas.shape[:2])
    top = max(float(sampling.weights.max()), 1e-12)
    weights, places = sampling.weights[:, level], sampling.places[:, level]
    colour = LEVEL_COLOURS[level % len(LEVEL_COLOURS)]
    order = np.argsort(-weights, axis=None)  # small points above large ones
    for head, point in zip(*np.unravel_index(order, weights.shape), strict=True):
        radius = max(largest * (float(weights[head, point]) / top) ** 0.5, 0.75)
        centre, extent = _at(places[head, point], canvas), round(radius * (1 << SHIFT))
        cv2.circle(canvas, centre, extent, colour, -1, cv2.LINE_AA, shift=SHIFT)
        cv2.circle(canvas, centre, extent, RIM_COLOUR, 1, cv2.LINE_AA, shift=SHIFT)
    x, y = (value >> SHIFT for value in _at(sampling.query, canvas))
    size = max(round(2 * largest), 9)
    for colour, width in (((0, 0, 0), 5), (QUERY_COLOUR, 2)):
        cv2.drawMarker(canvas, (x, y), colour, cv2.MARKER_CROSS, size, width, cv2.LINE_AA)
    return canvas


def direction_vectors(classes: npt.NDArray[np.integer[Any]]) -> Floats:
    """(..., 2): the unit vectors (x, y) of direction classes 0..7, rows downwards."""
    angle = np.pi / 4 * classes
    return np.stack([-np.cos(angle), -np.sin(angle)], axis=-1)


def draw_directions(
    image: Picture,
    near: Floats,
    direction: npt.NDArray[np.integer[Any]],
    size: tuple[int, int],
    threshold: float = 0.5,
) -> Picture:
    """Arrows to the inside of the object in the cells that are near a boundary, which are tinted.

    near (h, w): probability that a cell is near one; direction (h, w) classes 0..7. `size` (H, W):
    the part of `image` that is shown.
    """
    canvas = np.asarray(enlarged(image) * FADED, np.uint8)
    height, width = canvas.shape[:2]
    shown = near > threshold
    tint = cv2.resize(shown.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    canvas[tint > 0] = (0.7 * canvas[tint > 0] + 0.3 * np.array(MASK_COLOUR)).astype(np.uint8)
    step = np.array([width / near.shape[1], height / near.shape[0]])
    vectors = direction_vectors(direction) * 0.4 * step.min()
    for row, column in np.argwhere(shown):
        centre = (np.array([column, row]) + 0.5) * step
        start, end = centre - vectors[row, column], centre + vectors[row, column]
        cv2.arrowedLine(
            canvas,
            (int(start[0]), int(start[1])),
            (int(end[0]), int(end[1])),
            ARROW_COLOUR,
            1,
            cv2.LINE_AA,
            tipLength=0.4,
        )
    return _shown(canvas, image, size)
