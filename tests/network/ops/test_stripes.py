# SPDX-License-Identifier: Apache-2.0
"""Attention in stripes, against the padded and masked form of the paper."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from network.ops.stripes import row_stripe_attention

HIDDEN = -100.0  # added to the scores of padded tokens


def padded_and_masked(query: Tensor, value: Tensor, height: int, heads: int) -> Tensor:
    """Zeros at the bottom up to whole stripes; scores that touch a zero are pushed down."""
    batch, rows, width, channels = query.shape
    missing = -rows % height
    wide = channels // heads

    def windows(x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, 0, 0, missing))
        return x.reshape(-1, height * width, heads, wide).transpose(1, 2)

    real = windows(torch.ones_like(query))[..., :1]
    scores = windows(query) @ windows(value).transpose(-1, -2) * wide**-0.5
    scores = scores + HIDDEN * (1 - real * real.transpose(-1, -2))
    result = (scores.softmax(-1) @ windows(value)).transpose(1, 2)
    return result.reshape(batch, rows + missing, width, channels)[:, :rows]


@pytest.mark.parametrize("rows", [1, 3, 6, 7, 8])
@pytest.mark.parametrize("height", [1, 2, 3, 7])
def test_a_shorter_last_stripe_equals_padding_and_masking(rows: int, height: int) -> None:
    torch.manual_seed(rows * 10 + height)
    query, value = torch.randn(2, 2, rows, 5, 12, dtype=torch.float64)
    want = padded_and_masked(query, value, height, heads=3)
    got = row_stripe_attention(query, value, height, heads=3)
    assert torch.allclose(got, want, rtol=0, atol=1e-12)


def test_columns_are_rows_of_the_turned_map() -> None:
    torch.manual_seed(0)
    query, value = torch.randn(2, 1, 4, 4, 6, dtype=torch.float64)
    turned = row_stripe_attention(query.transpose(1, 2), value.transpose(1, 2), 2, heads=1)
    # A token sees both columns of its stripe and nothing else.
    other = value.clone()
    other[:, :, 2:] = 0
    again = row_stripe_attention(query.transpose(1, 2), other.transpose(1, 2), 2, heads=1)
    assert torch.equal(turned[:, :2], again[:, :2]) and not torch.equal(turned, again)


@pytest.mark.parametrize("heads", [1, 3])
def test_bfloat16_on_the_cpu_takes_another_way_to_the_same_result(
    heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("network.ops.stripes.SCORES_AT_ONCE", 300)  # several parts
    torch.manual_seed(0)
    query, value = torch.randn(2, 2, 7, 5, 12)
    want = row_stripe_attention(query, value, 2, heads)
    got = row_stripe_attention(query.bfloat16(), value.bfloat16(), 2, heads)
    assert got.dtype == torch.bfloat16
    assert torch.allclose(got.float(), want, rtol=0, atol=0.05)
