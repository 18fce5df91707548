# SPDX-License-Identifier: Apache-2.0
"""Boundary F-score: outlines, tolerance, empty classes, streaming."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.morphology import dilation, disk

from metrics.boundary import BoundaryScores, boundary_f, boundary_map, boundary_radius


def square(top: int, left: int, side: int = 12, size: int = 40) -> np.ndarray:
    label = np.zeros((size, size), np.uint8)
    label[top : top + side, left : left + side] = 1
    return label


def test_outline_is_the_difference_to_right_lower_and_diagonal_neighbours():
    mask = np.zeros((4, 4), np.uint8)
    mask[1:3, 1:3] = 1
    want = [[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    assert boundary_map(mask).tolist() == want
    assert not boundary_map(np.ones((4, 4), np.uint8)).any()


def test_scores_are_those_of_a_dilation_with_a_disk():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 3, (2, 8, 8)).astype(np.uint8)
    pred, label = coarse.repeat(8, 1).repeat(8, 2)
    label[20:30, 5:25] = 255
    f_score, precision, recall = boundary_f(pred, label, 3, threshold=4)
    pred = np.where(label == 255, 255, pred)
    for k in range(3):
        p, g = (boundary_map((m == k).astype(np.uint8)) for m in (pred, label))
        want_p = (p & dilation(g, disk(4))).sum() / p.sum()
        want_r = (g & dilation(p, disk(4))).sum() / g.sum()
        assert (precision[k], recall[k]) == (want_p, want_r)
        assert f_score[k] == pytest.approx(2 * want_p * want_r / (want_p + want_r))


@pytest.mark.parametrize(("shift", "score"), [(2, 1.0), (9, None)])
def test_shift_within_the_tolerance_costs_nothing(shift, score):
    f_score, _, _ = boundary_f(square(10, 10), square(10, 10 + shift), 2, threshold=2)
    assert (f_score[1] == 1.0) if score else (f_score[1] < 0.8)


def test_empty_classes_follow_the_convention():
    nothing, something = np.zeros((40, 40), np.uint8), square(10, 10)
    for pred, label, want in (
        (nothing, something, (0, 1, 0)),
        (something, nothing, (0, 0, 1)),
        (nothing, nothing, (1, 1, 1)),
    ):
        assert tuple(score[1] for score in boundary_f(pred, label, 2)) == want


@pytest.mark.parametrize(
    ("threshold", "radius"), [(0.008, 19), (0.00088, 3), (1, 1), (3, 3), (2.5, 3)]
)
def test_tolerance_is_a_share_of_the_diagonal_or_pixels(threshold, radius):
    assert boundary_radius(1024, 2048, threshold) == radius


def test_images_stream_and_ranks_add_up():
    pairs = [(square(10, 10 + shift), square(10, 10)) for shift in (0, 1, 5, 9)]
    whole, part = BoundaryScores(2, threshold=2), BoundaryScores(2, threshold=2)
    for pred, label in pairs:
        whole.update(pred, label)
    part.update(*pairs[0])
    want = np.mean([boundary_f(*pair, 2, threshold=2)[0] for pair in pairs], axis=0)
    np.testing.assert_allclose(whole.f_score(), want)
    assert whole.mean_f() == pytest.approx(want.mean())
    assert part.f_score().tolist() == [1.0, 1.0]
    assert np.isnan(BoundaryScores(2).f_score()).all()


def test_different_shapes_are_an_error():
    with pytest.raises(ValueError, match="differ"):
        boundary_f(square(1, 1), square(1, 1, size=41), 2)
