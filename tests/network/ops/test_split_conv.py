# SPDX-License-Identifier: Apache-2.0
"""A convolution over resized maps, split by map and tile, against the direct way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from network.ops.resize import concat_resized
from network.ops.split_conv import SplitConv, SplitInput, tiles

CHANNELS = (3, 5, 4)
SIZES = {
    "halves": [(16, 24), (8, 12), (4, 6)],
    "odd": [(17, 23), (9, 12), (5, 6)],
    "one pixel": [(3, 4), (2, 2), (1, 1)],
    "alike": [(6, 7), (6, 7), (6, 7)],
}


def by_tiles(conv: nn.Conv2d, maps: list[Tensor], side: int, align_corners: bool) -> Tensor:
    """The split convolution put together from its tiles: (1, outputs, H, W)."""
    split, source = SplitConv(conv, CHANNELS), SplitInput.of([x[0] for x in maps], align_corners)
    height, width = maps[0].shape[2:]
    result = torch.full((height, width, conv.out_channels), float("nan"))
    for tile in tiles((height, width), side):
        result[tile.window] = split(source, tile)
    return result.permute(2, 0, 1)[None]


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("side", [5, 64])
@pytest.mark.parametrize("align_corners", [False, True])
@torch.inference_mode()
def test_the_split_convolution_is_the_convolution_of_the_concatenation(
    sizes: list[tuple[int, int]], kernel: int, side: int, align_corners: bool
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(sum(CHANNELS), 6, kernel, padding=kernel // 2)
    maps = [torch.randn(1, c, *size) for c, size in zip(CHANNELS, sizes, strict=True)]
    want = conv(concat_resized(maps, align_corners))
    torch.testing.assert_close(
        by_tiles(conv, maps, side, align_corners), want, rtol=1e-5, atol=1e-5
    )


def test_tiles_cover_every_pixel_once() -> None:
    seen = torch.zeros(13, 22)
    for tile in tiles((13, 22), 5):
        seen[tile.window] += 1
    assert bool((seen == 1).all())
