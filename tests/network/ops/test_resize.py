# SPDX-License-Identifier: Apache-2.0
"""Bilinear resizing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from network.ops.resize import resize, scaled_size


@pytest.mark.parametrize(
    ("factor", "size"), [(0.5, (16, 23)), (2.0, (66, 94)), (1.5, (49, 70)), (0.01, (1, 1))]
)
def test_scaled_sizes_are_rounded_down_and_never_empty(
    factor: float, size: tuple[int, int]
) -> None:
    assert scaled_size((33, 47), factor) == size


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.5, 2.0])
def test_scaling_samples_with_the_ratio_of_the_real_sizes(factor: float) -> None:
    image = torch.randn(1, 2, 33, 47)
    want = F.interpolate(
        image,
        scale_factor=factor,
        mode="bilinear",
        align_corners=False,
        recompute_scale_factor=True,
    )
    assert torch.equal(resize(image, scaled_size((33, 47), factor)), want)


def test_a_tensor_of_the_wanted_size_comes_back_as_it_is() -> None:
    image = torch.randn(1, 2, 5, 6)
    assert resize(image, (5, 6)) is image


def test_align_corners_keeps_the_corners() -> None:
    image = torch.randn(1, 1, 4, 4)
    assert torch.equal(resize(image, (7, 7), align_corners=True)[..., ::2, ::2], image)
