# SPDX-License-Identifier: Apache-2.0
"""Steps that a graph for images of any size takes are equal to the usual ones."""

from __future__ import annotations

import math

import pytest
import torch

from network.ops.resize import _scaled_unknown, parts_of, same_size, surely
from network.ops.stripes import _attend_padded, row_stripe_attention


@pytest.mark.parametrize("factor", [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0])
def test_scaled_sides_are_rounded_down_alike(factor: float) -> None:
    for side in range(8, 3000, 7):
        assert _scaled_unknown(side, factor) == math.floor(side * factor)


def test_a_scale_that_is_no_short_ratio_is_taken_as_it_is() -> None:
    assert [_scaled_unknown(side, 1.1) for side in (10, 100)] == [11, 110]


def test_parts_cover_a_side() -> None:
    assert [parts_of(side, 8) for side in (1, 8, 9, 16)] == [1, 1, 2, 2]


def test_outside_of_graphs_conditions_are_what_they_are() -> None:
    assert surely(True) and not surely(False)
    assert same_size((3, 4), (3, 4)) and not same_size((3, 4), (4, 3))


@pytest.mark.parametrize("rows", [1, 6, 7, 13, 14])
def test_padded_stripes_attend_as_shorter_ones_do(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    query, value = (torch.randn(2, rows, 5, 8, generator=generator) for _ in range(2))
    want = row_stripe_attention(query, value, 7, 2)
    torch.testing.assert_close(_attend_padded(query, value, 7, 2), want, rtol=1e-5, atol=1e-6)
