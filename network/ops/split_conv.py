# SPDX-License-Identifier: Apache-2.0
"""Convolving the concatenation of resized maps without ever forming it.

A bilinear resize works on each channel alone and a convolution on each pixel alone, so they can
trade places: the products with the weights are taken at the resolution of the small map, for
every tap of the kernel, and the resize with the shift of the tap is applied to the products. For
maps at strides 4, 8, 16, 32 and a 3x3 kernel that is a sixth of the multiplications of the direct
way. Resize and shift are small matrices, one a side of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.ops.onednn import linear
from network.ops.resize import Size, resize

BORDER = 1  # rows and columns of zeros around the resized map; enough for 3x3


@dataclass(frozen=True)
class Tile:
    """Rows top..bottom and columns left..right of the output, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Index of the tile in a map (H, W, ...)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def tiles(size: Size, side: int) -> Iterator[Tile]:
    """Tiles of at most `side` x `side` pixels that cover a map of `size`."""
    height, width = size
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield Tile(top, min(top + side, height), left, min(left + side, width))


def interpolation(small: int, large: int, align_corners: bool, like: Tensor) -> Tensor:
    """(large + 2, small): every line of the resized side as a mix of the small one's lines.

    The lines of zeros before and after stand for the padding of the convolution.
    """
    identity = torch.eye(small, dtype=like.dtype, device=like.device)[None, None]
    mix = resize(identity, (large, small), align_corners)[0, 0]
    return F.pad(mix, (0, 0, BORDER, BORDER))


@dataclass(frozen=True)
class SplitInput:
    """Maps (h, w, C) of one image, the first at full size, and how to bring the others there."""

    maps: list[Tensor]
    rows: list[Tensor]  # `interpolation` of each map but the first
    columns: list[Tensor]

    @classmethod
    def of(cls, maps: Sequence[Tensor], align_corners: bool) -> SplitInput:
        """From maps (C, h, w); no copy if they lie in memory channels last."""
        height, width = maps[0].shape[1:]
        return cls(
            [x.permute(1, 2, 0).contiguous() for x in maps],
            [interpolation(x.shape[1], height, align_corners, x) for x in maps[1:]],
            [interpolation(x.shape[2], width, align_corners, x) for x in maps[1:]],
        )


def _used(mix: Tensor) -> slice:
    """The columns of a mix that hold anything but zeros."""
    used = mix.any(dim=0).nonzero()
    return slice(int(used[0]), int(used[-1]) + 1)


def _by_tap(mix: Tensor, kernel: int) -> Tensor:
    """(n + 2, m) -> (kernel, n, m): the mix of the line that each tap of the kernel sees."""
    lines, first = mix.shape[0] - 2 * BORDER, BORDER - kernel // 2
    return torch.stack([mix[first + tap : first + tap + lines] for tap in range(kernel)])


class SplitConv(nn.Module):
    """`conv` applied to torch.cat(maps, each resized to the first), tile by tile.

    `conv` is 1x1 or 3x3 with "same" padding, `channels` the widths of the maps.
    """

    def __init__(self, conv: nn.Conv2d, channels: Sequence[int]) -> None:
        super().__init__()
        assert sum(channels) == conv.in_channels and conv.stride == (1, 1)
        self.kernel, self.outputs = conv.kernel_size[0], conv.out_channels
        assert conv.kernel_size in ((1, 1), (3, 3)) and conv.padding == (self.kernel // 2,) * 2
        first, *others = conv.weight.detach().split(list(channels), dim=1)
        self.first = nn.Buffer(first.contiguous(memory_format=torch.channels_last))
        self.bias = None if conv.bias is None else nn.Buffer(conv.bias.detach().clone())
        for index, weight in enumerate(others, start=1):
            # (kernel row, kernel column x outputs, inputs)
            taps = weight.permute(2, 3, 0, 1).flatten(1, 2).contiguous()
            self.register_buffer(f"taps{index}", taps)

    def forward(self, source: SplitInput, tile: Tile) -> Tensor:
        """The output in `tile`, (rows, columns, outputs)."""
        result = self._full_size_part(source.maps[0], tile)
        lines = result.view(result.shape[0], -1)
        for index, x in enumerate(source.maps[1:], start=1):
            rows = source.rows[index - 1][tile.top : tile.bottom + 2 * BORDER]
            columns = source.columns[index - 1][tile.left : tile.right + 2 * BORDER]
            self._add_resized(lines, x, rows, columns, self.get_buffer(f"taps{index}"))
        return result

    def _full_size_part(self, x: Tensor, tile: Tile) -> Tensor:
        margin = self.kernel // 2
        if margin == 0:
            return linear(x[tile.window], self.first.flatten(1), self.bias)
        height, width = x.shape[:2]
        if tile == Tile(0, height, 0, width):
            whole = F.conv2d(x.permute(2, 0, 1)[None], self.first, self.bias, padding=margin)
            return whole[0].permute(1, 2, 0).contiguous()
        top, left = max(tile.top - margin, 0), max(tile.left - margin, 0)
        part = x[top : tile.bottom + margin, left : tile.right + margin].permute(2, 0, 1)[None]
        before = (left - (tile.left - margin), top - (tile.top - margin))
        after = (max(tile.right + margin - width, 0), max(tile.bottom + margin - height, 0))
        part = F.pad(part, (before[0], after[0], before[1], after[1]))
        part = part.contiguous(memory_format=torch.channels_last)
        return F.conv2d(part, self.first, self.bias)[0].permute(1, 2, 0).contiguous()

    def _add_resized(
        self, lines: Tensor, x: Tensor, rows: Tensor, columns: Tensor, taps: Tensor
    ) -> None:
        """Add the part of map `x` (h, w, C) to `lines` (rows, columns x outputs), in place."""
        used_rows, used_columns = _used(rows), _used(columns)
        patch = x[used_rows, used_columns]
        num_rows = patch.shape[0]
        across = _by_tap(columns[:, used_columns], self.kernel).permute(1, 2, 0).flatten(1)
        down = _by_tap(rows[:, used_rows], self.kernel).permute(1, 0, 2).flatten(1)
        flat = patch.reshape(-1, patch.shape[2])
        wide = lines.new_empty(self.kernel, num_rows, across.shape[0], self.outputs)
        for kernel_row in range(self.kernel):
            # (columns, w' x kernel) times (rows of the patch, w' x kernel, outputs)
            products = linear(flat, taps[kernel_row]).view(num_rows, -1, self.outputs)
            wide[kernel_row] = across @ products
        lines.addmm_(down, wide.view(down.shape[1], -1))
