# SPDX-License-Identifier: Apache-2.0
"""The keys of the output dictionary."""

from __future__ import annotations

import pytest
import torch

from network.outputs import attn_key, pred_key, scale_of, scaled_rows


@pytest.mark.parametrize(
    ("scale", "spelt"), [(0.5, "05"), (1.0, "10"), (2, "20"), (0.25, "025"), (1.75, "175")]
)
def test_scale_keys_have_no_point_and_read_back(scale: float, spelt: str) -> None:
    assert (pred_key(scale), attn_key(scale)) == (f"pred_{spelt}x", f"attn_{spelt}x")
    assert scale_of(pred_key(scale)) == scale_of(attn_key(scale)) == scale


@pytest.mark.parametrize("key", ["pred", "aux", "pred_x", "attn_0.5x", "dt_offset"])
def test_other_keys_have_no_scale(key: str) -> None:
    with pytest.raises(ValueError, match="no key of a single scale"):
        scale_of(key)


def test_row_positions_follow_the_scaled_image() -> None:
    rows = torch.linspace(0.0, 0.9, 10)[None]
    half = scaled_rows(rows, 5)
    assert half is not None
    torch.testing.assert_close(half, rows.view(1, 5, 2).mean(2))
    assert scaled_rows(rows, 10) is rows
    assert scaled_rows(None, 5) is None
