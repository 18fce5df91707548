# SPDX-License-Identifier: Apache-2.0
"""What a token sees of the levels below and above it through top-down attention, as images.

Legend: stages count from 1 (stride 4) to 4 (stride 32). `weights[t]` (h, w, P * P) belongs to the
pair of stages t - 1 and t: how much each child in the window of a parent listens to that parent,
positions row by row. The window of parent (row, column) starts at child (2 * row - pad,
2 * column - pad) with pad = (P - 1) // 2. A cell is a token of stage 1, 4 x 4 pixels.

Source: Leung et al., HILA (2022), the images of its figure 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]
Weights = Mapping[int, npt.NDArray[np.floating]]
Grid = tuple[int, int]

CELL = 4  # pixels per side
FRAME = (255, 0, 0)  # RGB
FRAME_WIDTH = 2
TINT = 0.5  # of the colours over the image
# Matplotlib's "jet": position and value of its corners, for red, green and blue.
JET = (
    ((0.0, 0.35, 0.66, 0.89, 1.0), (0.0, 0.0, 1.0, 1.0, 0.5)),
    ((0.0, 0.125, 0.375, 0.64, 0.91, 1.0), (0.0, 0.0, 1.0, 1.0, 0.0, 0.0)),
    ((0.0, 0.11, 0.34, 0.65, 1.0), (0.5, 1.0, 1.0, 0.0, 0.0)),
)
JET_SIZE = 256


def chain(weights: Weights, top: int) -> list[int]:
    """The stages below `top` that are reached without a gap, from above."""
    found: list[int] = []
    while top - len(found) in weights:
        found.append(top - len(found) - 1)
    return found


def grid_of(size: Grid, stage: int) -> Grid:
    """Number of tokens of `stage` in an image of `size` pixels, both as (rows, columns)."""
    rows, columns = (-(-side // CELL) for side in size)
    for _ in range(stage - 1):
        rows, columns = -(-rows // 2), -(-columns // 2)
    return rows, columns


def patch_of(weights: npt.NDArray[np.floating]) -> tuple[int, int]:
    """Side P of the window of a parent, and how far it starts before twice the parent's index."""
    patch = math.isqrt(weights.shape[2])
    return patch, (patch - 1) // 2


def descend(tokens: Floats, weights: npt.NDArray[np.floating], size: Grid) -> Floats:
    """Values (h, w) of parents handed down to their children `size`, by weight and added up."""
    patch, pad = patch_of(weights)
    height, width = tokens.shape
    canvas = np.zeros((2 * height + patch, 2 * width + patch))
    for place, (row, column) in enumerate(np.ndindex(patch, patch)):
        part = canvas[row : row + 2 * height : 2, column : column + 2 * width : 2]
        part += tokens * weights[..., place]
    return canvas[pad : pad + size[0], pad : pad + size[1]]


def ascend(children: Floats, weights: npt.NDArray[np.floating]) -> Floats:
    """Values of children handed up to their parents (h, w), by the same weights."""
    patch, pad = patch_of(weights)
    height, width = weights.shape[:2]
    canvas = np.zeros((2 * height + patch, 2 * width + patch))
    canvas[pad : pad + children.shape[0], pad : pad + children.shape[1]] = children
    parents = np.zeros((height, width))
    for place, (row, column) in enumerate(np.ndindex(patch, patch)):
        own = canvas[row : row + 2 * height : 2, column : column + 2 * width : 2]
        parents += own * weights[..., place]
    return parents


def _cells(tokens: Floats, stage: int, size: Grid) -> Floats:
    """Tokens of `stage` as flat squares on the cells `size`."""
    side = 2 ** (stage - 1)
    return tokens.repeat(side, axis=0).repeat(side, axis=1)[: size[0], : size[1]]


def children_cells(
    weights: Weights, token: Grid, top: int, size: Grid
) -> Iterator[tuple[int, Floats]]:
    """What `token` of stage `top` gives to each stage below it: (stage, values of all cells).

    Values are products of weights along a path, summed over all paths. size: cells of the
    image. Stages between the first and stage 1 are spread over the windows of their tokens
    instead of over the squares of these, as published.
    """
    picture = (CELL * size[0], CELL * size[1])
    tokens = np.zeros(weights[top].shape[:2])
    tokens[token] = 1
    for stage in chain(weights, top):
        tokens = descend(tokens, weights[stage + 1], grid_of(picture, stage))
        if stage in (1, top - 1):
            yield stage, _cells(tokens, stage, size)
        else:
            window = np.ones((*tokens.shape, weights[stage + 1].shape[2]))
            spread = descend(tokens, window, grid_of(picture, stage - 1))
            yield stage, _cells(spread, stage - 1, size)


def middle_child(weights: Weights, token: Grid, top: int, size: Grid) -> tuple[int, Grid]:
    """The lowest stage below `token`, and the token of that stage in its middle, inside the
    image."""
    lowest = chain(weights, top)[-1]
    rows, columns = grid_of((CELL * size[0], CELL * size[1]), lowest)
    side = 2 ** (top - lowest)
    middle = [side * place + side // 2 for place in token]
    return lowest, (min(middle[0], rows - 1), min(middle[1], columns - 1))


def parents_cells(
    weights: Weights, child: Grid, lowest: int, top: int, size: Grid
) -> Iterator[tuple[int, Floats]]:
    """How much `child` of stage `lowest` listens to each stage above: (stage, values of cells).

    The values of a stage sum to 1 over its tokens.
    """
    tokens = np.zeros(grid_of((CELL * size[0], CELL * size[1]), lowest))
    tokens[child] = 1
    for stage in range(lowest + 1, top + 1):
        tokens = ascend(tokens, weights[stage])
        yield stage, _cells(tokens, stage, size)


def window_box(weights: Weights, token: Grid, top: int) -> tuple[int, int, int]:
    """First row and column of the window of `token` in pixels, and its side; may lie outside."""
    patch, pad = patch_of(weights[top])
    unit = CELL * 2 ** (top - 2)
    return (2 * token[0] - pad) * unit, (2 * token[1] - pad) * unit, patch * unit


def jet_table() -> Floats:
    """The 256 colours of "jet", RGB in 0..1."""
    places = np.linspace(0, 1, JET_SIZE)
    return np.stack([np.interp(places, *corners) for corners in JET], axis=1)


def colors_of(values: Floats) -> Floats:
    """RGB in 0..255 of values in 0..1, blue for 0 and red for 1, not rounded."""
    # The published code uses "jet" of the complement with red and blue exchanged: the same colours.
    entries = np.minimum((JET_SIZE * (1 - values)).astype(np.int64), JET_SIZE - 1)
    return 255 * jet_table()[entries][..., ::-1]


def overlay(image: Picture, cells: Floats, box: tuple[int, int, int]) -> Picture:
    """`image` (H, W, 3) RGB under the colours of `cells`, relative to the largest, and a frame.

    box: first row, first column and side of the frame in pixels; what lies outside is cut off.
    """
    height, width = image.shape[:2]
    values = cells.repeat(CELL, axis=0).repeat(CELL, axis=1)[:height, :width]
    largest = values.max()
    colors = colors_of(values / largest if largest > 0 else values)
    _draw_frame(colors, box)
    mixed = image + TINT * colors
    return np.clip(mixed, 0, 255).astype(np.uint8)


def _draw_frame(colors: Floats, box: tuple[int, int, int]) -> None:
    """Lines around a square, those at its end just outside of it, in place."""
    row, column, side = box
    far = side + FRAME_WIDTH

    def paint(first: int, last: int, left: int, right: int) -> None:
        colors[max(first, 0) : max(last, 0), max(left, 0) : max(right, 0)] = FRAME

    for start in (0, side):
        paint(row + start, row + start + FRAME_WIDTH, column, column + side)
        paint(row, row + far, column + start, column + start + FRAME_WIDTH)
