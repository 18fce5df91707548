# SPDX-License-Identifier: Apache-2.0
"""Multi-scale deformable attention: weighted sums of points sampled from several maps.

    out = deformable_attention(value, [(60, 60), (30, 30)], locations, weights)

For every query and head, `K` points on each of `L` levels are sampled bilinearly, zero outside
of the map, and summed with their weights. Source: Zhu et al., "Deformable DETR" (2021),
equations 2 and 3.

On the CPU the four cells around each of the L*K points form one bag of 4*L*K rows of the value
table, summed in a single fused pass; samples are never stored. The backward pass builds the
bags again instead of keeping them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from network.ops.resize import Size

FORWARD_QUERIES = 1024  # bags built at a time: indices and coefficients stay in the cache
BACKWARD_QUERIES = 128  # fewer, since the gradient of every row is written out

Shapes = tuple[Size, ...]


def deformable_attention(
    value: Tensor, shapes: Sequence[Size], locations: Tensor, weights: Tensor
) -> Tensor:
    """(B, Q, M * D): the sums of all heads side by side.

    value (B, S, M, D): the cells of all levels, level by level and row by row, S = sum of H * W
    over `shapes`. locations (B, Q, M, L, K, 2): (x, y), 0..1 from edge to edge of the level, any
    other value allowed. weights (B, Q, M, L, K). Half precision is computed, and comes back, as
    float32.
    """
    exports = torch.compiler.is_exporting()  # sizes may be unknown then
    sizes = tuple(shapes)
    if not exports:
        sizes = tuple((int(height), int(width)) for height, width in shapes)
    assert value.shape[1] == sum(height * width for height, width in sizes)
    assert locations.shape[:-1] == weights.shape and weights.shape[3] == len(sizes)
    half = value.dtype in (torch.float16, torch.bfloat16)
    dtype = torch.float32 if half else value.dtype
    value, locations, weights = value.to(dtype), locations.to(dtype), weights.to(dtype)
    if exports or value.device.type != "cpu":
        return level_by_level(value, sizes, locations, weights)
    sums: Tensor = BagSums.apply(value, locations, weights, sizes)
    return sums.transpose(1, 2).flatten(2)


def level_by_level(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """`deformable_attention` by grid sampling, one level after the other; any device."""
    batch, _, heads, channels = value.shape
    total = value.new_zeros(batch * heads, channels, locations.shape[1])
    cells = value.split([height * width for height, width in shapes], dim=1)
    for level, (height, width) in enumerate(shapes):
        table = cells[level].permute(0, 2, 3, 1).reshape(batch * heads, channels, height, width)
        grid = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        samples = F.grid_sample(
            table, grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
        weight = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)
        total = total + torch.einsum("ncqk,nqk->ncq", samples, weight)
    return total.unflatten(0, (batch, heads)).permute(0, 3, 1, 2).flatten(2)


@dataclass(frozen=True)
class Tables:
    """Where the cells of all levels lie once each level has a frame of zeros around it.

    Tensors (L, K, 2) or (L, K), equal along K: the size (W, H), the row length of a framed
    level, and the number of its first row in the table.
    """

    size: Tensor
    stride: Tensor
    first: Tensor
    length: int

    @classmethod
    def of(cls, shapes: Shapes, points: int, like: Tensor) -> Tables:
        """For levels of `shapes` with `points` points each."""
        areas = [(height + 2) * (width + 2) for height, width in shapes]
        firsts = [sum(areas[:level]) for level in range(len(shapes))]
        size = torch.tensor([(width, height) for height, width in shapes]).to(like)
        stride = torch.tensor([width + 2 for _, width in shapes], dtype=torch.int32)
        first = torch.tensor(firsts, dtype=torch.int32)
        return cls(
            size[:, None].repeat(1, points, 1),
            stride[:, None].repeat(1, points),
            first[:, None].repeat(1, points),
            sum(areas),
        )


def _framed(value: Tensor, shapes: Shapes) -> Tensor:
    """(B, S, M, D) -> (B, M, S', D): head by head, every level with a frame of zeros."""
    cells = value.split([height * width for height, width in shapes], dim=1)
    framed = [
        F.pad(part.unflatten(1, shape).permute(0, 3, 1, 2, 4), (0, 0, 1, 1, 1, 1)).flatten(2, 3)
        for part, shape in zip(cells, shapes, strict=True)
    ]
    return torch.cat(framed, dim=2)


def _unframed(table: Tensor, shapes: Shapes) -> Tensor:
    """The inverse of `_framed`; what stands in the frames is dropped."""
    parts = table.split([(height + 2) * (width + 2) for height, width in shapes], dim=2)
    inner = [
        part.unflatten(2, (height + 2, width + 2))[:, :, 1:-1, 1:-1].flatten(2, 3)
        for part, (height, width) in zip(parts, shapes, strict=True)
    ]
    return torch.cat(inner, dim=2).transpose(1, 2).contiguous()


def _bags(locations: Tensor, weights: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
    """Rows of the table (n, 4*L*K) and their coefficients, from (n, L, K, 2) and (n, L, K).

    A point is held inside of the frame, where all it can reach is zero; coefficients are
    differentiable in both arguments. A place that is no number has coefficients that are none.
    """
    position = torch.minimum((locations * tables.size + 0.5).clamp(min=0), tables.size + 1)
    corner = torch.minimum(position.detach().floor(), tables.size)
    corner.nan_to_num_()  # some row of the table; fmin would be slower by ten times
    across, down = (position - corner).unbind(-1)
    column, row = corner.to(torch.int32).unbind(-1)
    upper = row * tables.stride + column + tables.first
    lower = upper + tables.stride
    right = weights * across
    left = weights - right
    lower_left, lower_right = left * down, right * down
    rows = torch.cat([upper, upper + 1, lower, lower + 1], dim=1)
    coefficients = torch.cat(
        [left - lower_left, right - lower_right, lower_left, lower_right], dim=1
    )
    return rows.flatten(1), coefficients.flatten(1)


def _parts(batch: int, heads: int, queries: int, step: int) -> Iterator[tuple[int, int, slice]]:
    """Every (image, head, range of queries)."""
    for image in range(batch):
        for head in range(heads):
            for start in range(0, queries, step):
                yield image, head, slice(start, start + step)


class BagSums(torch.autograd.Function):
    """value (B, S, M, D), locations, weights -> (B, M, Q, D), by bags of table rows."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, locations: Tensor, weights: Tensor, shapes: Shapes
    ) -> Tensor:
        batch, queries, heads, _, points = weights.shape
        ctx.save_for_backward(value, locations, weights)
        ctx.shapes = shapes
        table = _framed(value, shapes)
        tables = Tables.of(shapes, points, value)
        sums = value.new_empty(batch, heads, queries, value.shape[-1])
        for image, head, part in _parts(batch, heads, queries, FORWARD_QUERIES):
            rows, coefficients = _bags(
                locations[image, part, head], weights[image, part, head], tables
            )
            sums[image, head, part] = F.embedding_bag(
                rows, table[image, head], mode="sum", per_sample_weights=coefficients
            )
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        value, locations, weights = ctx.saved_tensors
        batch, queries, heads, _, points = weights.shape
        table = _framed(value, ctx.shapes)
        tables = Tables.of(ctx.shapes, points, value)
        to_table = torch.zeros_like(table) if ctx.needs_input_grad[0] else None
        to_locations, to_weights = torch.empty_like(locations), torch.empty_like(weights)
        for image, head, part in _parts(batch, heads, queries, BACKWARD_QUERIES):
            own = grad[image, head, part].contiguous()
            place = locations[image, part, head].detach().requires_grad_()
            weight = weights[image, part, head].detach().requires_grad_()
            with torch.enable_grad():
                rows, coefficients = _bags(place, weight, tables)
                sums = F.embedding_bag(
                    rows, table[image, head], mode="sum", per_sample_weights=coefficients
                )
            to_place, to_weight = torch.autograd.grad(sums, (place, weight), own)
            to_locations[image, part, head] = to_place
            to_weights[image, part, head] = to_weight
            if to_table is not None:
                spread = coefficients.detach()[..., None] * own[:, None]
                to_table[image, head].index_add_(0, rows.flatten(), spread.flatten(0, 1))
        to_value = None if to_table is None else _unframed(to_table, ctx.shapes)
        return to_value, to_locations, to_weights, None
