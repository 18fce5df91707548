# SPDX-License-Identifier: Apache-2.0
"""Deformable attention: the formula point by point, gradients, any levels, half precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from benchmarks.unept import direct
from network.ops import deform_attn
from network.ops.deform_attn import deformable_attention, level_by_level

SHAPES = ((5, 7), (3, 4), (2, 2))


def draw(
    shapes: tuple[tuple[int, int], ...] = SHAPES,
    points: int = 3,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Two images, six queries, two heads of four channels; one point in three is outside."""
    generator = torch.Generator().manual_seed(seed)
    cells = sum(height * width for height, width in shapes)
    value = torch.randn(2, cells, 2, 4, generator=generator, dtype=dtype)
    grid = (2, 6, 2, len(shapes), points)
    locations = torch.rand(*grid, 2, generator=generator, dtype=dtype) * 1.8 - 0.4
    weights = torch.rand(grid, generator=generator, dtype=dtype)
    return value, locations, weights


def cell(value: Tensor, row: int, column: int, size: tuple[int, int]) -> Tensor:
    """One cell of a level (H * W, D), zero outside of it."""
    height, width = size
    inside = 0 <= row < height and 0 <= column < width
    return value[row * width + column] if inside else torch.zeros_like(value[0])


def by_hand(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """The definition for the first image, query by query and point by point."""
    _, queries, heads, levels, points = weights.shape
    parts = value.split([height * width for height, width in SHAPES], dim=1)
    out = torch.zeros(queries, heads, value.shape[-1], dtype=value.dtype)
    for query in range(queries):
        for head in range(heads):
            for level in range(levels):
                for point in range(points):
                    index = (0, query, head, level, point)
                    x = float(locations[index][0]) * SHAPES[level][1] - 0.5
                    y = float(locations[index][1]) * SHAPES[level][0] - 0.5
                    column, row = math.floor(x), math.floor(y)
                    for down in (0, 1):
                        for right in (0, 1):
                            share = abs(1 - down - (y - row)) * abs(1 - right - (x - column))
                            near = cell(
                                parts[level][0, :, head], row + down, column + right, SHAPES[level]
                            )
                            out[query, head] += weights[index] * share * near
    return out.flatten(1)


def test_it_is_the_sum_of_bilinear_samples_with_zeros_outside() -> None:
    value, locations, weights = (x if n == 0 else x[:, :2] for n, x in enumerate(draw()))
    got = deformable_attention(value, SHAPES, locations, weights)[0]
    torch.testing.assert_close(got, by_hand(value, locations, weights))


def test_gradients_are_those_of_the_formula() -> None:
    inputs = [x.requires_grad_() for x in draw(points=2)]

    def call(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return deformable_attention(value, SHAPES, locations, weights)

    assert torch.autograd.gradcheck(call, inputs, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("shapes", [SHAPES, ((4, 6),), ((1, 9), (2, 2), (3, 1), (5, 5))])
@pytest.mark.parametrize("points", [1, 4])
def test_all_ways_agree_for_any_levels_and_points(
    shapes: tuple[tuple[int, int], ...], points: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deform_attn, "FORWARD_QUERIES", 4)  # chunks that do not divide 6
    monkeypatch.setattr(deform_attn, "BACKWARD_QUERIES", 4)
    inputs = [x.requires_grad_() for x in draw(shapes, points, seed=1)]
    results = []
    for operator in (direct, level_by_level, deformable_attention):
        output = operator(inputs[0], shapes, inputs[1], inputs[2])
        results.append((output, *torch.autograd.grad(output.sin().sum(), inputs)))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


def test_points_far_outside_give_zero_and_no_gradient() -> None:
    value, locations, weights = draw()
    locations = (locations + 50).requires_grad_()
    output = deformable_attention(value, SHAPES, locations, weights)
    output.sum().backward()
    assert not output.any() and not locations.grad.any()


@pytest.mark.parametrize("spoilt", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", [0, 1, 2], ids=["value", "locations", "weights"])
def test_what_is_no_number_gives_no_number_and_stops_nothing(spoilt: float, which: int) -> None:
    inputs = draw(dtype=torch.float32)
    inputs[which][(0,) * inputs[which].ndim] = spoilt  # of the first image
    value, locations, weights = (x.requires_grad_() for x in inputs)
    output = deformable_attention(value, SHAPES, locations, weights)
    gradients = torch.autograd.grad(output.sin().sum(), inputs)
    is_far = which == 1 and math.isinf(spoilt)  # a place outside of the map, where all is zero
    assert bool(output[1].isfinite().all()) and bool(output.isfinite().all()) == is_far
    assert all(bool(each.isfinite().all()) for each in gradients) == is_far


def test_the_locations_of_frozen_values_still_learn() -> None:
    value, locations, weights = draw()
    locations.requires_grad_()
    deformable_attention(value, SHAPES, locations, weights).square().sum().backward()
    assert locations.grad.abs().sum() > 0 and value.grad is None


def test_half_precision_is_summed_in_single() -> None:
    value, locations, weights = (x.to(torch.bfloat16) for x in draw())
    got = deformable_attention(value, SHAPES, locations, weights)
    assert got.dtype == torch.float32
    want = deformable_attention(value.float(), SHAPES, locations.float(), weights.float())
    assert torch.equal(got, want)
