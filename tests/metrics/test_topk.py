# SPDX-License-Identifier: Apache-2.0
"""Top-1, top-5 and recall, counted by hand."""

from __future__ import annotations

import math

import torch

from metrics.topk import ClassScores, TopCounts


def test_first_guess_first_five_and_recall() -> None:
    logits = torch.zeros(4, 7)
    logits[0, 3] = 1  # right
    logits[1, :6] = torch.tensor([5.0, 4, 3, 2, 1, 6])  # class 4 is the sixth guess
    logits[2, :6] = torch.tensor([5.0, 4, 3, 2, 1, 0])  # class 4 is the fifth
    logits[3, 2] = 1  # right
    counts = TopCounts(7)
    counts.update(logits[:2], torch.tensor([3, 4]))
    counts.update(logits[2:], torch.tensor([4, 2]))
    scores = ClassScores.of(counts.counts)
    assert (scores.top1, scores.top5) == (0.5, 0.75)
    recall = scores.recall.tolist()
    assert recall[2:5] == [1, 1, 0] and math.isnan(recall[0])


def test_with_fewer_than_five_classes_every_guess_is_among_the_first_five() -> None:
    counts = TopCounts(3)
    counts.update(torch.eye(3), torch.tensor([1, 1, 1]))
    scores = ClassScores.of(counts.counts)
    assert scores.top5 == 1 and math.isclose(scores.top1, 1 / 3)
