# SPDX-License-Identifier: Apache-2.0
"""A metric from two functions: what to count in one image, and the scores of the classes after all.

Counts are integers that are added up, so any number of processes and any batch size give the same
scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metrics.mean import known_mean
from metrics.result import Gather, ImageResult
from reports.sinks import EveryImageSink

Counts = npt.NDArray[np.int64]  # (K, ...): a row for each class
Count = Callable[[ImageResult], Counts]  # of an image with a label
Score = Callable[[Counts], npt.NDArray[np.float64]]  # (K, ...) -> (K,) in 0..1, NaN for no value


@dataclass(frozen=True, kw_only=True)
class CountedScores:
    """The sum of the counts of all labelled images, and the scores of the classes from it."""

    name: str
    score: Score
    counts: Counts | None = None

    def _of_classes(self) -> npt.NDArray[np.float64]:
        return np.empty(0) if self.counts is None else self.score(self.counts)

    def values(self) -> dict[str, float]:
        """Mean over the classes, NaN left out."""
        scores = self._of_classes()
        return {self.name: known_mean(scores) if scores.size else math.nan}

    def of_classes(self) -> dict[str, list[float]]:
        """The score of each class; nothing without a labelled image."""
        scores = self._of_classes()
        return {self.name: scores.tolist()} if scores.size else {}

    def totals(self) -> dict[str, object]:
        """The counts."""
        return {"counts": self.counts}

    def table(self, class_names: Sequence[str]) -> str:
        """One line per class and one for the mean, in %."""
        values = [*self._of_classes().tolist(), *self.values().values()]
        names = [*class_names, "mean"][-len(values) :]
        width = max(map(len, [self.name, *names]))
        cells = ["-" if math.isnan(value) else f"{100 * value:.2f}" for value in values]
        rows = [f"{name:<{width}}{cell:>11}" for name, cell in zip(names, cells, strict=True)]
        return "\n".join([f"{self.name:<{width}}{'%':>11}", *rows])


class CountedSink(EveryImageSink):
    """Adds up `count` of every labelled image; after `close`, `scores` covers all ranks."""

    needs: frozenset[str] = frozenset()

    def __init__(self, name: str, count: Count, score: Score) -> None:
        self.count = count
        self.scores = CountedScores(name=name, score=score)

    def add(self, result: ImageResult) -> None:
        """Count one image."""
        if result.label is not None:
            self._add([self.scores.counts, self.count(result)])

    def close(self, rank: int, world: int, gather: Gather) -> None:
        """Sum over the ranks, so that all have the same numbers."""
        self._add(gather(self.scores.counts))

    def _add(self, parts: Sequence[Counts | None]) -> None:
        """The sum of `parts` is what has been counted; none of them, nothing."""
        known = [part for part in parts if part is not None]
        total = np.sum(known, axis=0) if known else None
        self.scores = CountedScores(name=self.scores.name, score=self.scores.score, counts=total)
