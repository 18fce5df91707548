# SPDX-License-Identifier: Apache-2.0
"""Boundary F-score of one image: outlines, tolerances, empty classes, all classes together."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.morphology import dilation, disk

from metrics.boundary import boundary_f, boundary_radius, modified_f, outline


def square(top: int, left: int, side: int = 12, size: int = 40) -> np.ndarray:
    label = np.zeros((size, size), np.uint8)
    label[top : top + side, left : left + side] = 1
    return label


def blocky(num_classes: int, size: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and label of 8 x 8 blocks, the label with a void corner and a void band."""
    coarse = np.random.default_rng(seed).integers(0, num_classes, (2, size // 8, size // 8))
    pred, label = coarse.astype(np.uint8).repeat(8, 1).repeat(8, 2)
    label[20:30, 5:25] = label[-3:] = 255
    return pred, label


def by_dilation(pred: np.ndarray, label: np.ndarray, radius: int) -> tuple[float, float]:
    """Precision and recall of two outlines."""
    near_label, near_pred = (dilation(each, disk(radius)) for each in (label, pred))
    return (pred & near_label).sum() / pred.sum(), (label & near_pred).sum() / label.sum()


def test_outline_is_the_difference_to_right_lower_and_diagonal_neighbours():
    mask = np.zeros((4, 4), np.uint8)
    mask[1:3, 1:3] = 1
    want = [[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    assert outline(mask).astype(int).tolist() == want
    assert not outline(np.ones((4, 4), np.uint8)).any()


@pytest.mark.parametrize("num_classes", [3, 9, 20, 70])
def test_scores_are_those_of_a_dilation_with_a_disk(num_classes):
    pred, label = blocky(num_classes, size=104)
    radii = (4, 2)
    scores = boundary_f(pred, label, num_classes, radii)
    pred = np.where(label == 255, 255, pred)
    checked = 0
    for k in range(0, num_classes, max(num_classes // 8, 1)):
        edges = [outline(m == k) for m in (pred, label)]
        if not all(edge.any() for edge in edges):
            continue
        checked += 1
        for number, radius in enumerate(radii):
            want_p, want_r = by_dilation(*edges, radius)
            f_score, precision, recall = scores[number, :, k]
            assert (precision, recall) == (want_p, want_r)
            both = want_p + want_r
            assert f_score == pytest.approx(2 * want_p * want_r / both if both else 0)
    assert checked >= 2


def test_a_tolerance_wider_than_the_image_forgives_everything():
    scores = boundary_f(square(0, 0, 4, 16), square(10, 11, 4, 16), 2, (3, 400))
    assert (scores[1] == 1).all() and (scores[0] < 1).any()


@pytest.mark.parametrize(("shift", "score"), [(2, 1.0), (9, None)])
def test_shift_within_the_tolerance_costs_nothing(shift, score):
    f_score = boundary_f(square(10, 10), square(10, 10 + shift), 2, (2,))[0, 0]
    assert (f_score[1] == 1.0) if score else (f_score[1] < 0.8)


def test_empty_classes_follow_the_convention():
    nothing, something = np.zeros((40, 40), np.uint8), square(10, 10)
    for pred, label, want in (
        (nothing, something, (0, 1, 0)),
        (something, nothing, (0, 0, 1)),
        (nothing, nothing, (1, 1, 1)),
    ):
        assert tuple(boundary_f(pred, label, 2)[0, :, 1]) == want
    assert np.isnan(boundary_f(nothing, nothing, 2, missing=np.nan)).all()


@pytest.mark.parametrize(
    ("threshold", "radius"), [(0.008, 19), (0.00088, 3), (1, 1), (3, 3), (2.5, 3)]
)
def test_tolerance_is_a_share_of_the_diagonal_or_pixels(threshold, radius):
    assert boundary_radius(1024, 2048, threshold) == radius


def test_modified_score_is_that_of_the_union_of_all_outlines():
    pred, label = blocky(5)
    kept = np.where(label == 255, 255, pred)
    edges = []
    for ids in (kept, label):
        union = np.any([outline(ids == k) for k in range(5)], axis=0)
        edges.append(union & (label != 255))
    want_p, want_r = by_dilation(*edges, 2)
    f_score, precision, recall = modified_f(pred, label, 5, 2)[0, :, 0]
    assert (precision, recall) == (want_p, want_r)
    assert f_score == pytest.approx(2 * want_p * want_r / (want_p + want_r))


def test_a_label_that_is_no_class_ends_outlines_unless_it_is_the_ignored_one():
    pred, label = square(10, 10), square(10, 10)
    label[label == 0] = 2
    assert boundary_f(pred, label, 2)[0, 0].tolist() == [1, 1]
    # now the ground is no class, but not ignored either: its prediction is wrong
    assert boundary_f(pred, label, 2, ignore_label=255)[0, 0].tolist() == [0, 1]


def test_different_shapes_are_an_error():
    for measure in (boundary_f, modified_f):
        with pytest.raises(ValueError, match="differ"):
            measure(square(1, 1), square(1, 1, size=41), 2)
