# SPDX-License-Identifier: Apache-2.0
"""Share of images whose class is the first guess of a classifier, or one of the first five."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """top1, top5: fractions of all images (top5 of all classes where there are fewer).

    recall: (K,) float64, top-1 share of the images of each class, NaN for a class without images.
    """

    top1: float
    top5: float
    recall: Tensor

    @staticmethod
    def of(counts: Tensor) -> ClassScores:
        """Scores from counts summed over all ranks, see `TopCounts`."""
        total = counts.sum(0).double()
        number = max(float(total[0]), 1.0)
        return ClassScores(
            top1=float(total[1]) / number,
            top5=float(total[2]) / number,
            recall=(counts[:, 1].double() / counts[:, 0].double()).cpu(),
        )


class TopCounts:
    """Counts of every class: images, right at the first guess, right among the first five."""

    def __init__(self, num_classes: int, device: torch.device | str = "cpu") -> None:
        self.counts = torch.zeros(num_classes, 3, dtype=torch.int64, device=device)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits (B, K), labels (B,) int64."""
        guesses = logits.topk(min(5, logits.shape[1]), dim=1).indices
        hits = guesses == labels[:, None]
        row = torch.stack([torch.ones_like(labels), hits[:, 0], hits.any(1)], dim=1)
        self.counts.index_add_(0, labels, row.to(torch.int64))
