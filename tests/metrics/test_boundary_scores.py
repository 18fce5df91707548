# SPDX-License-Identifier: Apache-2.0
"""Boundary scores over images: means, slices, missing classes, tables."""

from __future__ import annotations

import numpy as np
import pytest

from metrics.boundary import boundary_f
from metrics.boundary_scores import BoundaryScores
from tests.metrics.test_boundary import blocky, square

PAIRS = [(square(10, 10 + shift), square(10, 10)) for shift in (0, 1, 5, 9)]


def filled(pairs=PAIRS, **options) -> BoundaryScores:
    scores = BoundaryScores(2, **options)
    for pred, label in pairs:
        scores.update(pred, label)
    return scores


def test_scores_are_the_mean_over_images_at_each_tolerance():
    scores = filled(thresholds=(2, 6))
    want = np.mean([boundary_f(*pair, 2, (2, 6)) for pair in PAIRS], axis=0)
    np.testing.assert_allclose(scores.means(), want)
    np.testing.assert_allclose(scores.f_score(1), want[1, 0])
    assert scores.mean_f() == pytest.approx(want[0, 0].mean())
    assert scores.mean_f(1) > scores.mean_f()
    assert np.isnan(BoundaryScores(2).f_score()).all() and np.isnan(BoundaryScores(2).mean_f())


def test_slices_add_up_to_the_whole():
    first, second = filled(PAIRS[:1], thresholds=(2,)), filled(PAIRS[1:], thresholds=(2,))
    first.add(second.num_images, second.sums, second.counted)
    whole = filled(thresholds=(2,))
    assert first.num_images == 4
    np.testing.assert_allclose(first.means(), whole.means())


def test_a_missing_class_counts_as_one_or_not_at_all():
    nothing = np.zeros((40, 40), np.uint8)
    pairs = [(square(10, 10), square(20, 20)), (nothing, nothing)]
    as_published, skipped = filled(pairs), filled(pairs, ignore_missing=True)
    assert as_published.counted.tolist() == [2, 2] and skipped.counted.tolist() == [1, 1]
    once = filled(pairs[:1]).f_score()
    np.testing.assert_allclose(as_published.f_score(), (once + 1) / 2)
    np.testing.assert_allclose(skipped.f_score(), once)
    assert np.isnan(filled(pairs[1:], ignore_missing=True).mean_f())


def test_the_modified_score_is_one_row():
    scores = BoundaryScores(5, modified=True)
    scores.update(*blocky(5))
    assert scores.f_score().shape == (1,) and scores.thresholds == (3,)
    lines = scores.table("abcde").splitlines()
    assert len(lines) == 2 and lines[1].startswith("any two classes")
    assert lines[1].split()[3] == f"{100 * scores.mean_f():.2f}"


def test_table_of_several_tolerances_has_a_column_each():
    scores = filled([PAIRS[3], (PAIRS[3][0] * 0, PAIRS[3][0] * 0)], thresholds=(2, 0.2))
    lines = scores.table(["road", "car"]).splitlines()
    assert lines[0].split() == ["boundary", "F", "2", "F", "0.2"]
    assert [line.split()[0] for line in lines[1:]] == ["road", "car", "mean"]
    assert float(lines[-1].split()[2]) == pytest.approx(100 * scores.mean_f(1), abs=0.005)


def test_classes_that_never_counted_are_dashes():
    nothing = np.zeros((8, 8), np.uint8)
    scores = filled([(nothing, nothing)], ignore_missing=True)
    assert scores.table(["road", "car"]).splitlines()[1].split()[1:] == ["-", "-", "-"]
