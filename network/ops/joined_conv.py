# SPDX-License-Identifier: Apache-2.0
"""Convolutions that read several maps at once, by the shorter way where there is one.

A head that joins four maps at the size of the first and convolves them spends most of its time on
pixels that bilinear resizing made up. `SplitConv` does without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from network.ops.resize import concat_resized
from network.ops.split_conv import SplitConv, SplitInput, tiles

LEAST_PIXELS = 1 << 10  # of the first map, from which sorting the weights pays
TILE = 64  # side, in pixels, of what is computed at a time


@dataclass(frozen=True)
class Unjoined:
    """Maps (B, C_i, h_i, w_i) that stand for their concatenation at the size of the first."""

    maps: Sequence[Tensor]
    align_corners: bool


def join(maps: Sequence[Tensor], align_corners: bool) -> Tensor | Unjoined:
    """The input of a `JoinedConv`: the maps joined, or not if it gets by faster without.

    That is so in float32 on the CPU when no gradient is asked for. Graphs (compilers, exports,
    counts of operations) are made of the plain concatenation and convolution.
    """
    fits = all(
        type(x) is Tensor and x.device.type == "cpu" and x.dtype == torch.float32 for x in maps
    )
    graph = torch.is_grad_enabled() or torch.compiler.is_compiling()
    if graph or not fits or torch.is_autocast_enabled("cpu"):
        return concat_resized(maps, align_corners)
    if maps[0][0, 0].numel() < LEAST_PIXELS:
        return concat_resized(maps, align_corners)
    return Unjoined(maps, align_corners)


class JoinedConv(nn.Conv2d):
    """A convolution, 1x1 or 3x3 with "same" padding, of what `join` makes of maps.

    `channels` are the widths of the maps.
    """

    def __init__(
        self, channels: Sequence[int], outputs: int, kernel: int, bias: bool = False
    ) -> None:
        super().__init__(sum(channels), outputs, kernel, padding=kernel // 2, bias=bias)
        self.channels = tuple(channels)

    def forward(self, input: Tensor | Unjoined) -> Tensor:
        """(B, outputs, h, w), of the first map's size, and as it lies in memory."""
        if isinstance(input, Tensor):
            return super().forward(input)
        batch, _, height, width = input.maps[0].shape
        split = SplitConv(self, self.channels)
        result = self.weight.new_empty(batch, height, width, self.out_channels)
        for index, pixels in enumerate(result):
            source = SplitInput.of([x[index] for x in input.maps], input.align_corners)
            for tile in tiles((height, width), TILE):
                pixels[tile.window] = split(source, tile)
        joint = result.permute(0, 3, 1, 2)
        return joint.contiguous() if input.maps[0].is_contiguous() else joint
