# SPDX-License-Identifier: Apache-2.0
"""Adaptive pooling by matrices is that of torch, whatever does not divide."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from network.heads.hanet import _pooled_by_bins, pooled
from network.ops.bins import bin_means, bins


@pytest.mark.parametrize("length", [1, 2, 5, 6, 17, 64])
@pytest.mark.parametrize("number", [1, 2, 3, 6, 16])
def test_bins_are_those_of_adaptive_pooling(length: int, number: int) -> None:
    x = torch.randn(2, 3, length, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        x @ bin_means(length, number, x).T, F.adaptive_avg_pool1d(x, number), rtol=1e-5, atol=1e-6
    )
    spread = x[:, :, None].masked_fill(~bins(length, number, x.device), float("-inf"))
    assert torch.equal(spread.amax(3), F.adaptive_max_pool1d(x, number))


@pytest.mark.parametrize("maximum", [False, True])
def test_rows_are_pooled_alike_in_a_graph(maximum: bool) -> None:
    x = torch.randn(1, 4, 37, 9, generator=torch.Generator().manual_seed(0))
    want, found = pooled(x, 16, maximum), _pooled_by_bins(x, 16, maximum)
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-6)
