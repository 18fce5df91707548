# SPDX-License-Identifier: Apache-2.0
"""Boundary scores of many images, added up one by one; `metrics.boundary` scores one image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from metrics.boundary import MODIFIED_RADIUS, Bytes, Floats, boundary_f, modified_f
from metrics.mean import known_mean

HMSA_THRESHOLD = 0.008  # share of the image diagonal
PARTS = ("F", "Precision", "Recall")
ANY_CLASS = "any two classes"  # the row of the modified score


@dataclass
class BoundaryScores:
    """Mean boundary scores over images at several tolerances, one image in memory at a time.

    `modified`: one score of the outlines between any two classes, within MODIFIED_RADIUS pixels,
    instead of one per class. `ignore_missing`: a class without an outline in either map of an image
    is left out there; as published it counts as 1. `ignore_label` as in `boundary_f`.

    `sums` (T, 3, K) holds F, precision and recall added up, `counted` (K,) over how many images,
    with K = 1 if `modified`. Parts of a set, ranks or slices, are joined by adding both.
    """

    num_classes: int
    thresholds: tuple[float, ...] = (HMSA_THRESHOLD,)
    modified: bool = False
    ignore_missing: bool = False
    ignore_label: int | None = None
    num_images: int = 0
    sums: Floats = field(init=False)
    counted: Floats = field(init=False)

    def __post_init__(self) -> None:
        if self.modified:
            self.thresholds = (MODIFIED_RADIUS,)
        rows = 1 if self.modified else self.num_classes
        self.sums = np.zeros((len(self.thresholds), len(PARTS), rows))
        self.counted = np.zeros(rows)

    def update(self, pred: Bytes, label: Bytes) -> None:
        """Count one image, class maps (H, W) uint8; see `boundary_f`."""
        measure = modified_f if self.modified else partial(boundary_f, thresholds=self.thresholds)
        values = measure(
            pred,
            label,
            self.num_classes,
            ignore_label=self.ignore_label,
            missing=math.nan if self.ignore_missing else 1.0,
        )
        self.sums += np.nan_to_num(values)
        self.counted += ~np.isnan(values[0, 0])
        self.num_images += 1

    def add(self, num_images: int, sums: Floats, counted: Floats) -> None:
        """Count the images of another part of the set."""
        self.num_images += num_images
        self.sums += sums
        self.counted += counted

    def means(self) -> Floats:
        """Mean F, precision and recall of each class (T, 3, K); NaN where nothing was counted."""
        empty = np.full_like(self.sums, np.nan)
        means: Floats = np.divide(self.sums, self.counted, out=empty, where=self.counted > 0)
        return means

    def f_score(self, number: int = 0) -> Floats:
        """Mean F of each class (K,) at the tolerance with that index."""
        scores: Floats = self.means()[number, 0]
        return scores

    def mean_f(self, number: int = 0) -> float:
        """Plain mean over the classes, NaN left out."""
        return known_mean(self.f_score(number))

    @property
    def name(self) -> str:
        """ "boundary", or "modified": the key in results.json."""
        return "modified" if self.modified else "boundary"

    def values(self) -> dict[str, float]:
        """Mean F at the first tolerance."""
        return {f"{self.name}_f": self.mean_f()}

    def of_classes(self) -> dict[str, list[float]]:
        """F of each class at the first tolerance; the modified score has no classes."""
        return {} if self.modified else {f"{self.name}_f": self.f_score().tolist()}

    def totals(self) -> dict[str, object]:
        """Sums and counts at every tolerance."""
        return {
            "thresholds": self.thresholds,
            "mean_f": [self.mean_f(number) for number in range(len(self.thresholds))],
            "sums": self.sums,
            "counted": self.counted,
            "images": self.num_images,
        }

    def table(self, class_names: Sequence[str]) -> str:
        """One line per class and one for the mean, in %: F, precision and recall, or with several
        tolerances F at each."""
        rows = [ANY_CLASS] if self.modified else list(class_names)
        if len(self.thresholds) == 1:
            heads, columns = list(PARTS), self.means()[0]
        else:
            heads, columns = [f"F {each:g}" for each in self.thresholds], self.means()[:, 0]
        names = rows if self.modified else [*rows, "mean"]
        width = max(len("boundary"), *map(len, names))
        values = 100 * np.column_stack([columns, [known_mean(column) for column in columns]])
        lines = [f"{'boundary':<{width}}" + "".join(f"{head:>11}" for head in heads)]
        for number, name in enumerate(names):
            cells = ("-" if math.isnan(value) else f"{value:.2f}" for value in values[:, number])
            lines.append(f"{name:<{width}}" + "".join(f"{cell:>11}" for cell in cells))
        return "\n".join(lines)
