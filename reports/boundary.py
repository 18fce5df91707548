# SPDX-License-Identifier: Apache-2.0
"""Boundary F-score of an evaluation, counted while images stream by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metrics.boundary import BoundaryScores

if TYPE_CHECKING:
    from engine.result import Gather, Result


class BoundarySink:
    """Adds up the boundary scores of every labelled image; `scores` is of all ranks when closed.

    `threshold` is the tolerance: pixels, or a share of the image diagonal below 1.
    """

    needs: frozenset[str] = frozenset()

    def __init__(self, num_classes: int, threshold: float = 0.008) -> None:
        self.scores = BoundaryScores(num_classes, threshold)

    def wants(self, index: int) -> bool:
        return True

    def done(self, name: str) -> bool:
        return False

    def add(self, result: Result) -> None:
        """Count one image."""
        if result.label is not None:
            self.scores.update(result.pred, result.label)

    def close(self, rank: int, world: int, gather: Gather) -> None:
        """Sum over the ranks, in their order, so that all have the same numbers."""
        parts = gather((self.scores.num_images, self.scores.sums))
        total = BoundaryScores(self.scores.num_classes, self.scores.threshold)
        for num_images, sums in parts:
            total.num_images += num_images
            total.sums += sums
        self.scores = total
