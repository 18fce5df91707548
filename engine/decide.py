# SPDX-License-Identifier: Apache-2.0
"""From scores to classes: what is kept of the scores of a batch once they are gone.

decided = Decided(batch.sizes[0], WithProb)
decided.take(scores)                  # those of whole images
decided.take(scores, box)             # or of one part after another
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.windows import Box

RANKED_ROWS = 256  # rows of which the best classes are sorted at a time


@dataclass(frozen=True, kw_only=True)
class Keep:
    """What sinks read besides the classes: the largest probability at each pixel, its mean
    (`confidence`), and the probabilities of all classes.

    top: of so many classes per pixel alone, the most probable ones; 0: of all, in their order.
    """

    prob: bool = False
    confidence: bool = False
    scores: bool = False
    top: int = 0


class Decided:
    """What a batch is predicted as, at `size` (H, W).

    pred: (B, H, W) uint8 class ids. finite: (B,) whether all largest scores are numbers. prob:
    (B, H, W) float32 largest probability; sums: (B,) float64, their sum over the image. scores:
    (B, T, H, W) float16 probabilities, in order of the classes, or of the T most probable ones,
    falling, with their classes `score_ids` (B, T, H, W) uint8. What is not kept is None. `scores`
    and `score_ids` lie on the host, all else where the scores came from.
    """

    def __init__(self, size: tuple[int, int], keep: Keep) -> None:
        self.size, self.keep = size, keep
        self.pred: Tensor
        self.finite: Tensor
        self.prob: Tensor | None = None
        self.sums: Tensor | None = None
        self.scores: Tensor | None = None
        self.score_ids: Tensor | None = None
        self._begun = False

    def confidence(self, position: int) -> float | None:
        """The mean of the largest probabilities of one image."""
        pixels = self.size[0] * self.size[1]
        return None if self.sums is None else float(self.sums[position]) / pixels

    def take(self, scores: Tensor, box: Box | None = None) -> None:
        """Decide about the scores (B, K, h, w) of the part `box`, of the whole image without one.

        Every pixel must be given once.
        """
        if not self._begun:
            self._begin(scores)
        place = box or Box(0, 0, *self.size)
        part = (..., slice(place.top, place.bottom), slice(place.left, place.right))
        top, classes = scores.max(1)
        self.pred[part] = classes.to(torch.uint8)
        del classes
        self.finite &= torch.isfinite(top).flatten(1).all(dim=1)
        if not (self.keep.prob or self.keep.confidence or self.keep.scores):
            return
        prob = largest_probability(scores, top)
        if self.prob is not None:
            self.prob[part] = prob
        if self.sums is not None:
            self.sums += prob.sum((1, 2), dtype=torch.float64)
        if self.scores is None:
            return
        if self.score_ids is None:
            for number in range(scores.shape[1]):
                values = (scores[:, number] - top).exp_().mul_(prob)
                self.scores[:, number][part] = values.to("cpu", torch.float16)
            return
        for first in range(0, scores.shape[2], RANKED_ROWS):
            rows = slice(first, first + RANKED_ROWS)
            self._rank(scores[:, :, rows], top[:, rows], prob[:, rows], _shifted(place, first))

    def _begin(self, scores: Tensor) -> None:
        count, classes = scores.shape[:2]
        self.pred = scores.new_empty(count, *self.size, dtype=torch.uint8)
        self.finite = scores.new_ones(count, dtype=torch.bool)
        if self.keep.prob:
            self.prob = scores.new_empty(count, *self.size, dtype=torch.float32)
        if self.keep.confidence:
            self.sums = scores.new_zeros(count, dtype=torch.float64)
        if self.keep.scores:
            kept = min(self.keep.top or classes, classes)
            self.scores = torch.empty(count, kept, *self.size, dtype=torch.float16)
            if self.keep.top:
                self.score_ids = torch.empty(count, kept, *self.size, dtype=torch.uint8)
        self._begun = True

    def _rank(self, scores: Tensor, top: Tensor, prob: Tensor, place: Box) -> None:
        """The most probable classes of some rows; the lowest id comes first on a tie."""
        assert self.scores is not None and self.score_ids is not None
        part = (..., slice(place.top, place.bottom), slice(place.left, place.right))
        left = scores.clone()
        for number in range(self.scores.shape[1]):
            value, best = left.max(1, keepdim=True)
            left.scatter_(1, best, -torch.inf)
            values = (value[:, 0] - top).exp_().mul_(prob)
            self.scores[:, number][part] = values.to("cpu", torch.float16)
            self.score_ids[:, number][part] = best[:, 0].to("cpu", torch.uint8)


def _shifted(place: Box, first: int) -> Box:
    """The rows of `place` from `first` on, at most RANKED_ROWS of them."""
    top = place.top + first
    return Box(top, place.left, min(top + RANKED_ROWS, place.bottom), place.right)


def largest_probability(scores: Tensor, top: Tensor) -> Tensor:
    """Largest softmax value per pixel: (B, K, H, W) and its maximum (B, H, W) -> (B, H, W).

    Summed class by class: a softmax would make a second score map.
    """
    total = torch.zeros_like(top)
    for number in range(scores.shape[1]):
        total += (scores[:, number] - top).exp_()
    return total.reciprocal_()
