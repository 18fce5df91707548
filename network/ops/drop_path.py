# SPDX-License-Identifier: Apache-2.0
"""Stochastic depth: a residual branch left out for some of the samples of a training batch.

Source: Huang et al., "Deep Networks with Stochastic Depth" (2016).
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["DropPath", "drop_path_rates"]


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """`depth` probabilities that rise linearly from 0 to `rate`."""
    return [rate * block / max(depth - 1, 1) for block in range(depth)]


class DropPath(nn.Module):
    """(B, ...) -> (B, ...): in training each sample is zero with probability `rate`, in 0..1.

    Samples that stay are multiplied by 1 / (1 - rate), so that the expectation does not change.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        assert 0 <= rate < 1, rate
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        mask = x.new_empty(x.shape[0], *(1,) * (x.dim() - 1)).bernoulli_(keep)
        return x * (mask / keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"
