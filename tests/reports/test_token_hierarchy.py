# SPDX-License-Identifier: Apache-2.0
"""Token hierarchies: shares going down and up, borders, every stage set, colours and frames."""

from __future__ import annotations

import numpy as np
import pytest

from reports.token_hierarchy import (
    CELL,
    ascend,
    chain,
    children_cells,
    colors_of,
    descend,
    grid_of,
    middle_child,
    overlay,
    parents_cells,
    window_box,
)

SIZE = (100, 132)  # pixels; odd grids
CELLS = grid_of(SIZE, 1)


def shares(stage: int, patch: int = 4, seed: int = 0) -> np.ndarray:
    """Top-down weights of a pair: over the parents of each child they sum to 1."""
    rows, columns = grid_of(SIZE, stage)
    drawn = np.random.default_rng(seed).uniform(0.1, 1, (rows, columns, patch * patch))
    total = descend(np.ones((rows, columns)), drawn, grid_of(SIZE, stage - 1))
    for row, column, place in np.ndindex(drawn.shape):
        pad = (patch - 1) // 2
        child = 2 * row - pad + place // patch, 2 * column - pad + place % patch
        inside = all(0 <= c < side for c, side in zip(child, total.shape, strict=True))
        drawn[row, column, place] = drawn[row, column, place] / total[child] if inside else 0
    return drawn


WEIGHTS = {stage: shares(stage, seed=stage) for stage in (2, 3, 4)}


def test_all_parents_together_give_each_child_everything() -> None:
    for patch in (2, 4, 6):
        weights = shares(4, patch)
        given = descend(np.ones(weights.shape[:2]), weights, grid_of(SIZE, 3))
        np.testing.assert_allclose(given, 1)
        child = np.zeros(given.shape)
        child[0, -1] = 1
        assert ascend(child, weights).sum() == pytest.approx(1)


def test_descending_goes_to_the_window_of_the_token() -> None:
    tokens = np.zeros((4, 5))
    tokens[1, 2] = 1
    weights = np.tile(np.arange(16.0), (4, 5, 1))
    children = descend(tokens, weights, (7, 9))
    assert children[1:5, 3:7].tolist() == np.arange(16.0).reshape(4, 4).tolist()
    assert children.sum() == np.arange(16).sum()


def test_way_down_and_way_up_meet() -> None:
    """The share of the lowest child is the same from both ends."""
    token = (1, 2)
    lowest, child = middle_child(WEIGHTS, token, 4, CELLS)
    assert (lowest, child) == (1, (12, 20))
    down = dict(children_cells(WEIGHTS, token, 4, CELLS))
    up = dict(parents_cells(WEIGHTS, child, lowest, 4, CELLS))
    assert up[4][8 * token[0], 8 * token[1]] == pytest.approx(down[1][child])
    cells_of_a_token = {2: 4, 3: 16, 4: 64}
    whole = np.s_[: CELLS[0] // 8 * 8, : CELLS[1] // 8 * 8]
    for stage, cells in up.items():
        assert cells[whole].sum() == pytest.approx(cells_of_a_token[stage])


@pytest.mark.parametrize("token", [(0, 0), (0, 4), (3, 0), (3, 4)])
def test_corners_are_drawn(token: tuple[int, int]) -> None:
    image, box = np.full((*SIZE, 3), 9, np.uint8), window_box(WEIGHTS, token, 4)
    for _, cells in children_cells(WEIGHTS, token, 4, CELLS):
        assert cells.shape == CELLS and cells.max() > 0
        picture = overlay(image, cells, box)
        assert picture.shape == image.shape and len(np.unique(picture.reshape(-1, 3), axis=0)) > 2


@pytest.mark.parametrize(
    ("stages", "top", "reached"),
    [((2, 3, 4), 4, [3, 2, 1]), ((3, 4), 4, [3, 2]), ((3,), 3, [2]), ((2, 4), 4, [3]),
     ((2, 4), 2, [1]), ((2, 3), 3, [2, 1])],
)  # fmt: skip
def test_every_stage_set_reaches_down_to_its_first_gap(
    stages: tuple[int, ...], top: int, reached: list[int]
) -> None:
    weights = {stage: WEIGHTS[stage] for stage in stages}
    assert chain(weights, top) == reached
    assert [stage for stage, _ in children_cells(weights, (1, 1), top, CELLS)] == reached
    lowest, child = middle_child(weights, (1, 1), top, CELLS)
    assert [stage for stage, _ in parents_cells(weights, child, lowest, top, CELLS)] == list(
        range(lowest + 1, top + 1)
    )


def test_other_patches_have_windows_of_their_size() -> None:
    for patch, start in ((2, 64), (6, 32)):
        assert window_box({4: shares(4, patch)}, (2, 2), 4) == (start, start, 16 * patch)


def test_colours_go_from_blue_to_red() -> None:
    low, high = colors_of(np.array([0.0, 1.0]))
    assert low.tolist() == [0, 0, 127.5] and high.tolist() == [127.5, 0, 0]


def test_frame_is_cut_off_at_the_border_and_nothing_wraps_around() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    picture = overlay(image, np.zeros((16 // CELL, 16 // CELL)), (-4, -4, 8))
    red = (picture == (127, 0, 0)).all(-1)
    assert red[4, :6].all() and red[:6, 4].all()
    assert not red[7:].any() and not red[:, 7:].any()
