# SPDX-License-Identifier: Apache-2.0
"""Paired bootstrap over images: the scores, the coverage of the intervals, and what it finds."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import sparse, stats

from metrics.confusion import Scores
from metrics.paired import MIN_IMAGES, SUMMARY, compare_pairs, scores_of

MEAN = -len(SUMMARY)  # place of the mean IoU
Sides = tuple[sparse.csr_array, sparse.csr_array]


def two_sides(
    rng: np.random.Generator,
    images: int,
    classes: int = 5,
    errors: tuple[float, float] = (0.2, 0.2),
) -> Sides:
    """Areas of two networks with these shares of wrong pixels, on images of unlike difficulty.

    The classes are ever rarer; wrong pixels are taken for the next class.
    """
    present = rng.random((images, classes)) < np.linspace(1, 0.3, classes)
    label = (rng.lognormal(8, 1, (images, classes)) * present).astype(np.int64)
    hard = rng.normal(0, 0.8, (images, 1)) + rng.normal(0, 0.5, (images, classes))
    sides = []
    for share in errors:
        odds = np.log(share / (1 - share)) + hard + rng.normal(0, 0.5, (images, classes))
        wrong = (label / (1 + np.exp(-odds))).astype(np.int64)
        right = label - wrong
        predicted = right + np.roll(wrong, 1, axis=1)
        sides.append(sparse.csr_array(np.concatenate([right, label, predicted], axis=1)))
    return sides[0], sides[1]


def test_scores_are_those_of_the_confusion_matrix() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.integers(0, 100, (5, 5))
    matrix[3] = matrix[:, 3] = 0  # a class in neither map
    matrix[4] = 0  # one that is predicted alone
    areas = np.stack([np.diag(matrix), matrix.sum(1), matrix.sum(0)]).astype(np.float64)
    wanted = Scores.of(matrix, [f"c{i}" for i in range(5)])
    found = scores_of(areas)
    assert found[:5] == pytest.approx(wanted.iou, nan_ok=True)
    assert dict(zip(SUMMARY, found[5:], strict=True)) == pytest.approx(
        {name: getattr(wanted, name) for name in SUMMARY}
    )
    assert np.isnan(scores_of(np.zeros((2, 3, 4)))).all()


def test_intervals_are_those_of_scipy() -> None:
    a, b = two_sides(np.random.default_rng(3), 400)
    dense = np.stack([a.toarray(), b.toarray()]).reshape(2, 400, 3, 5).astype(np.float64)

    def difference(chosen: np.ndarray) -> float:
        scores = scores_of(dense[:, chosen].sum(1))
        return float(scores[1, MEAN] - scores[0, MEAN])

    wanted = stats.bootstrap(
        (np.arange(400),), difference, vectorized=False, n_resamples=500, method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    found = compare_pairs(a, b, draws=4000)
    width = found.high[MEAN] - found.low[MEAN]
    assert found.low[MEAN] == pytest.approx(wanted.low, abs=0.12 * width)
    assert found.high[MEAN] == pytest.approx(wanted.high, abs=0.12 * width)
    assert found.difference[MEAN] == pytest.approx(difference(np.arange(400)))


@pytest.mark.parametrize(
    ("images", "trials"),
    [(60, 80), *(pytest.param(n, 500, marks=pytest.mark.slow) for n in (12, 50, 200))],
)
def test_equal_networks_are_within_noise_in_95_of_100_cases(images: int, trials: int) -> None:
    """Another set of images each time; also for every class that enough images have."""
    rng = np.random.default_rng(images)
    held = []
    for _ in range(trials):
        found = compare_pairs(*two_sides(rng, images), draws=300)
        inside = ((found.low <= 0) & (found.high >= 0)).astype(float)
        inside[found.images < MIN_IMAGES] = np.nan
        held.append(inside)
    judged = (~np.isnan(held)).sum(0)
    spread = 3 * np.sqrt(0.05 * 0.95 / judged)
    coverage = np.nanmean(held, axis=0)
    assert judged.min() > 20 and (abs(coverage - 0.95) < spread + 0.02).all(), coverage


@pytest.mark.parametrize(("errors", "verdict"), [((0.2, 0.17), "better"), ((0.17, 0.2), "worse")])
def test_a_planted_difference_is_found(errors: tuple[float, float], verdict: str) -> None:
    rng = np.random.default_rng(0)
    found = [
        compare_pairs(*two_sides(rng, 200, errors=errors), draws=300).verdict(5) for _ in range(10)
    ]
    assert found.count(verdict) >= 9 and {"better", "worse"} & {*found} == {verdict}


def test_a_difference_on_five_images_is_not_told() -> None:
    few = compare_pairs(*two_sides(np.random.default_rng(0), 5, errors=(0.5, 0.1)))
    assert {few.verdict(number) for number in range(8)} == {"too few images", "not labelled"}
    more = compare_pairs(*two_sides(np.random.default_rng(0), 30, errors=(0.5, 0.1)))
    assert {more.verdict(number) for number in range(8)} == {"better"}


def test_a_class_without_a_label_has_no_verdict_and_equal_runs_no_difference() -> None:
    a, b = two_sides(np.random.default_rng(0), 20, classes=3)
    empty = sparse.csr_array((20, 1), dtype=np.int64)
    parts = [(side[:, :3], side[:, 3:6], side[:, 6:9]) for side in (a, b)]
    a, b = (sparse.hstack([x for part in own for x in (part, empty)]).tocsr() for own in parts)
    found = compare_pairs(a, b)
    assert np.isnan(found.difference[3]) and found.verdict(3) == "not labelled"
    assert np.isfinite(found.difference[4])
    same = compare_pairs(a, a)
    assert (same.low[[0, 1, 2, 4]] == 0).all() and (same.high[[0, 1, 2, 4]] == 0).all()
    assert same.verdict(4) == "within noise"


def test_the_same_seed_draws_the_same_images() -> None:
    sides = two_sides(np.random.default_rng(0), 30)
    first, again, other = (compare_pairs(*sides, draws=300, seed=seed) for seed in (1, 1, 2))
    assert (first.low == again.low).all() and (first.low != other.low).any()


@pytest.mark.slow
@pytest.mark.parametrize(("images", "classes"), [(500, 19), (2000, 150)])
def test_two_thousand_draws_take_seconds(images: int, classes: int) -> None:
    sides = two_sides(np.random.default_rng(0), images, classes)
    start = time.process_time()
    compare_pairs(*sides)
    assert time.process_time() - start < 5
