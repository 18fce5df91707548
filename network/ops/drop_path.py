# SPDX-License-Identifier: Apache-2.0
"""Stochastic depth: in training a residual branch is left out for some images."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """(B, ...) -> the same, whole images set to zero with probability `rate` in training.

    What is kept is divided by 1 - rate, so the expectation stays. `rate` in 0..1.

    Source: Huang et al., "Deep Networks with Stochastic Depth" (2016).
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        assert 0 <= rate < 1
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """The branch, perhaps without some of its images."""
        if not self.training or self.rate == 0:
            return x
        shape = (x.shape[0],) + (1,) * (x.dim() - 1)
        kept = torch.empty(shape, dtype=x.dtype, device=x.device).bernoulli_(1 - self.rate)
        return x * (kept / (1 - self.rate))

    def extra_repr(self) -> str:
        """The rate."""
        return f"rate={self.rate:.3g}"


def rising_rates(highest: float, depths: tuple[int, ...]) -> list[list[float]]:
    """A rate for every block: from 0 in the first to `highest` in the last, by stage."""
    total = sum(depths)
    rates = iter(highest * index / max(total - 1, 1) for index in range(total))
    return [[next(rates) for _ in range(depth)] for depth in depths]
