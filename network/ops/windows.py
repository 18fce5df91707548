# SPDX-License-Identifier: Apache-2.0
"""Self-attention inside windows of a token map, as in Swin.

Source: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows"
(2021), section 3.2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.ops.part import Part

APART = -100.0  # added to the score of two tokens that only the cyclic shift made neighbours


def to_windows(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C) with sides that `window` divides -> (B * number, window^2, C), row by row."""
    tiles = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return tiles.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def from_windows(windows: Tensor, window: int, size: tuple[int, int]) -> Tensor:
    """The inverse of `to_windows` for a map of `size`."""
    rows, columns = size[0] // window, size[1] // window
    tiles = windows.unflatten(1, (window, window)).unflatten(0, (-1, rows, columns))
    return tiles.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def relative_places(window: int) -> Tensor:
    """Index of the bias of each pair of places, int64 (window^2, window^2), [query, key].

    That of row difference r and column difference c is (r + w - 1)(2w - 1) + c + w - 1.
    """
    place = torch.cartesian_prod(torch.arange(window), torch.arange(window))
    difference = place[:, None] - place[None, :] + window - 1
    return difference[..., 0] * (2 * window - 1) + difference[..., 1]


def shift_mask(size: tuple[int, int], window: int, shift: int) -> Tensor:
    """Scores to add after a cyclic shift: (number, window^2, window^2), 0 or `APART`.

    Tokens of a window that come from different sides of the map shall not see each other. The
    regions are cut even where the map is a single window, as published.
    """
    regions = torch.zeros(1, *size, 1)
    for axis, length in enumerate(size, start=1):
        position = torch.arange(length).view([-1 if dim == axis else 1 for dim in range(4)])
        cut = (position >= length - window).int() + (position >= length - shift).int()
        regions = regions * 3 + cut
    tokens = to_windows(regions, window).squeeze(-1)
    return APART * (tokens[:, :, None] != tokens[:, None, :])


class WindowAttention(Part):
    """Self-attention of windows (N, window^2, C) with a learned bias for relative places."""

    dead_entries = ("relative_position_index",)  # follows from `window`

    def __init__(self, channels: int, heads: int, window: int = 7) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        table = torch.empty((2 * window - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.register_buffer("places", relative_places(window), persistent=False)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, windows: Tensor, mask: Tensor | None = None) -> Tensor:
        """The same shape; `mask` (n, window^2, window^2) is repeated over the N / n images."""
        qkv = self.qkv(windows).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        places = self.get_buffer("places")
        bias = self.relative_position_bias_table[places].permute(2, 0, 1)[None]
        if mask is not None:
            bias = bias + mask[:, None].to(bias.dtype)
            images = windows.shape[0] // mask.shape[0]
            bias = bias.repeat(images, 1, 1, 1) if images > 1 else bias
        query, key, value = qkv.unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out
