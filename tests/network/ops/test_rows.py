# SPDX-License-Identifier: Apache-2.0
"""Row positions: the published table is one case of them, and they follow the image."""

from __future__ import annotations

import pytest
import torch

from network.ops.rows import PAD, STEPS, row_steps, scaled_rows


def positions(height: int) -> torch.Tensor:
    return ((torch.arange(height) + 0.5) / height)[None]


@pytest.mark.parametrize("bins", [8, 16, 32])
@pytest.mark.parametrize("height", [33, 96, 100, 360, 375, 720, 721, 1024, 1536, 2047])
def test_a_whole_picture_of_any_height_has_the_same_index(height: int, bins: int) -> None:
    steps = row_steps(positions(height), bins)[0]
    assert torch.equal(steps // (STEPS // bins), torch.arange(bins))


def test_rows_lower_than_the_block_are_repeated() -> None:
    assert (row_steps(positions(4), 8)[0] // 32).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("height", [720, 1024, 1843])
@pytest.mark.parametrize("crop", [(0, 512), (100, 868), (333, 720)])
def test_a_crop_has_the_steps_of_the_published_map(height: int, crop: tuple[int, int]) -> None:
    start, stop = crop
    stop = start + (min(stop, height) - start) // 16 * 16
    published = (torch.arange(height).double() + 0.5) * 1024 / height // 8
    want = published[start:stop][:: (stop - start) // 16]
    got = row_steps(positions(height)[:, start:stop], 16)[0]
    assert torch.equal(got, want.long())


def test_rows_upside_down_count_down() -> None:
    steps = row_steps(positions(1024).flip(1), 16)[0]
    assert torch.equal(steps // 8, torch.arange(15, -1, -1))


def test_only_rows_of_padding_are_padding() -> None:
    rows = torch.cat([torch.full((1, 32), PAD), positions(64), torch.full((1, 32), PAD)], dim=1)
    index = row_steps(rows, 16)[0] // 8
    assert index.tolist() == [16, 16, 16, 16, 0, 2, 4, 6, 8, 10, 12, 14, 16, 16, 16, 16]


@pytest.mark.parametrize("height", [15, 30, 45, 60, 100])
def test_scaled_rows_are_the_centres_of_the_scaled_picture(height: int) -> None:
    torch.testing.assert_close(scaled_rows(positions(60), height), positions(height))


def test_scaling_does_not_mix_padding_into_the_picture() -> None:
    rows = torch.cat([torch.full((1, 10), PAD), positions(30)], dim=1)
    for height in (20, 60, 80):
        scaled = scaled_rows(rows, height)[0]
        shown = scaled[scaled >= 0]
        assert bool(((scaled == PAD) | (scaled >= 0)).all())
        assert abs(len(shown) / height - 0.75) <= 1.5 / height
        assert bool((shown.diff() >= 0).all())


def test_no_rows_stay_no_rows() -> None:
    assert scaled_rows(None, 5) is None
