# SPDX-License-Identifier: Apache-2.0
"""Whether two evaluations of the same images differ by more than the choice of the images explains.

Images are drawn with replacement, the same ones for both sides, and the scores of the set are
computed anew from the summed areas of each draw. The spread of their differences says what another
set of as many images might have shown.

Source: Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; for few images the
quantiles are widened as in Hesterberg, "What Teachers Should Know About the Bootstrap", The
American Statistician 69, 2015 (expanded percentile interval).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SUMMARY = ("mean_iu", "acc", "acc_cls")  # what follows the classes in an array of scores
DRAWS, LEVEL = 2000, 0.95
CHUNK = 250  # draws whose sums are in memory at once
MIN_IMAGES = 6  # with 5, all of them may agree by chance: 2 * 0.5 ** 5 is above 1 - LEVEL


@dataclass(frozen=True, kw_only=True)
class PairedScores:
    """K class IoUs, then those of SUMMARY, as arrays (K + 3,) of shares in 0..1, NaN for none.

    `low` and `high` bound the difference b - a, where enough labels hold the class: those of
    `images`.
    """

    a: Floats
    b: Floats
    low: Floats
    high: Floats
    images: Ints

    @property
    def difference(self) -> Floats:
        """What b has more than a."""
        return self.b - self.a

    def verdict(self, number: int) -> str:
        """What the difference at that place is."""
        if not self.images[number]:
            return "not labelled"
        if self.images[number] < MIN_IMAGES:
            return "too few images"
        if self.low[number] > 0:
            return "better"
        return "worse" if self.high[number] < 0 else "within noise"


def scores_of(areas: Floats) -> Floats:
    """Scores (..., K + 3) from summed areas (..., 3, K): right, of the label, of the prediction.

    As `metrics.confusion.Scores` has them: a class in neither map has none, and means leave it out.
    """
    right, label, prediction = np.moveaxis(areas, -2, 0)
    iou = _ratio(right, label + prediction - right)
    accuracy = _ratio(right.sum(-1), label.sum(-1))
    summary = np.stack([_mean(iou), accuracy, _mean(_ratio(right, label))], axis=-1)
    return np.concatenate([iou, summary], axis=-1)


def compare_pairs(
    a: Any, b: Any, *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> PairedScores:
    """Scores of both sides and intervals of their differences.

    a, b: `ImageCounts.areas` (N, 3 K) of the same images in the same order, N at least 1.
    """
    assert a.shape == b.shape and a.shape[0], "other images or classes on the two sides"
    count, columns = a.shape
    classes = columns // 3
    both = sparse.hstack([a, b]).T.tocsr().astype(np.float64)  # (6 K, N): exact below 2 ** 53
    scores = scores_of(both.sum(1).reshape(2, 3, classes))
    images = np.append(
        (a[:, classes : 2 * classes] > 0).sum(0).astype(np.int64), [count] * len(SUMMARY)
    )
    random, differences = np.random.default_rng(seed), []
    for first in range(0, draws, CHUNK):
        shares = np.full(count, 1 / count)
        times = random.multinomial(count, shares, size=min(CHUNK, draws - first))
        sums = (both @ times.T.astype(np.float64)).T
        drawn = scores_of(sums.reshape(-1, 2, 3, classes))
        differences.append(drawn[:, 1] - drawn[:, 0])
    low, high = _intervals(np.concatenate(differences), images, level)
    return PairedScores(a=scores[0], b=scores[1], low=low, high=high, images=images)


def _intervals(differences: Floats, images: Ints, level: float) -> tuple[Floats, Floats]:
    """Bounds of each column of `differences` (R, K + 3), NaN for too few images.

    Draws without the class do not count.
    """
    bounds = np.full((2, differences.shape[1]), np.nan)
    for number, column in enumerate(differences.T):
        known = column[~np.isnan(column)]
        if len(known) and images[number] >= MIN_IMAGES:
            tail = _tail(int(images[number]), level)
            bounds[:, number] = np.quantile(known, [tail, 1 - tail])
    return bounds[0], bounds[1]


def _tail(count: int, level: float) -> float:
    """What lies beyond either bound, given that `count` images tell: less than (1 - level) / 2."""
    tail = (1 - level) / 2
    wider = math.sqrt(count / (count - 1)) * stats.t.ppf(tail, count - 1)
    return float(stats.norm.cdf(wider))


def _ratio(part: Floats, whole: Floats) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return ratio


def _mean(values: Floats) -> Floats:
    """Mean over the last axis, NaN left out."""
    return _ratio(np.nansum(values, -1), (~np.isnan(values)).sum(-1).astype(np.float64))
