# SPDX-License-Identifier: Apache-2.0
"""Adaptive pooling as a product with a matrix, for graphs in which the size of a map is unknown.

The bins are those of torch's adaptive pooling: bin i of n holds the lines floor(i * L / n) to
ceil((i + 1) * L / n) - 1 of the L lines of a side.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def bins(length: int, number: int, device: torch.device) -> Tensor:
    """Which of `length` lines each of `number` bins holds: (number, length) bool."""
    line = torch.arange(length, device=device)
    own = torch.arange(number, device=device)[:, None]
    first, end = own * length // number, ((own + 1) * length + number - 1) // number
    return (line >= first) & (line < end)


def bin_means(length: int, number: int, like: Tensor) -> Tensor:
    """What the mean of each bin takes of each line: (number, length), of the type of `like`."""
    inside = bins(length, number, like.device)
    return (inside / inside.sum(1, keepdim=True)).to(like.dtype)


class BinMeans(nn.AdaptiveAvgPool2d):
    """Adaptive mean pooling of (B, C, h, w) to a square, by matrices while a graph is made."""

    def __init__(self, side: int) -> None:
        super().__init__(side)
        self.side = side

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, the name that torch gives it
        """(B, C, side, side)."""
        if not torch.compiler.is_exporting():
            return super().forward(input)
        rows, columns = (bin_means(length, self.side, input) for length in input.shape[2:])
        return rows @ input @ columns.T
