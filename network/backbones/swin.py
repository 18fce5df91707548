# SPDX-License-Identifier: Apache-2.0
"""Swin Transformer as a trunk: four layers of blocks with attention in shifted windows.

Tokens lie as maps (B, H, W, C) throughout.

Source: Liu et al., "Swin Transformer" (2021), section 3 and figure 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.backbones.mit import Four, as_map
from network.backbones.trunk import Trunk
from network.ops.drop_path import DropPath, rising_rates
from network.ops.init import init_transformer
from network.ops.part import Part
from network.ops.resize import surely
from network.ops.windows import WindowAttention, from_windows, shift_mask, to_windows

PATCH, WINDOW = 4, 7
SHIFT = WINDOW // 2


@dataclass(frozen=True)
class Size:
    """Channels of the first layer, blocks and heads of all four, published stochastic depth."""

    width: int
    depths: Four
    heads: Four
    drop_path: float


HEADS: Four = (3, 6, 12, 24)
SIZES = {
    "T": Size(96, (2, 2, 6, 2), HEADS, 0.2),
    "S": Size(96, (2, 2, 18, 2), HEADS, 0.3),
    "B": Size(128, (2, 2, 18, 2), (4, 8, 16, 32), 0.3),
    "L": Size(192, (2, 2, 18, 2), (6, 12, 24, 48), 0.3),
}
STILL_ENTRY = "still_windows"  # of weights that were trained without shifts of small maps
TABLE = "attn.relative_position_bias_table"


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """(B, H, W, C) with zeros at the right and below, so that `multiple` divides both sides."""
    right, under = -x.shape[2] % multiple, -x.shape[1] % multiple
    if surely(right == 0) and surely(under == 0):
        return x
    return F.pad(x, (0, 0, 0, right, 0, under))


class PatchEmbed(nn.Module):
    """(B, 3, H, W) -> a token for every 4 x 4 pixels; incomplete patches end in zeros."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        """(B, ceil(H / 4), ceil(W / 4), width)."""
        right, under = -images.shape[3] % PATCH, -images.shape[2] % PATCH
        patches = self.proj(F.pad(images, (0, right, 0, under)))
        tokens: Tensor = self.norm(patches.permute(0, 2, 3, 1))
        return tokens


class PatchMerging(nn.Module):
    """(B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), 2C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Four neighbours to one token; the left column of each square comes first."""
        x = pad_to(x, 2)
        joint = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        merged: Tensor = self.reduction(self.norm(torch.cat(joint, dim=-1)))
        return merged


class MLP(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, ratio * channels)
        self.fc2 = nn.Linear(ratio * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class SwinBlock(Part):
    """Attention in windows and feed-forward part, both residual, on tokens (B, H, W, C)."""

    dead_entries = ("attn_mask",)  # made for the size of the map

    def __init__(
        self, channels: int, heads: int, *, shift: int = 0, ratio: int = 4, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.shift, self.window, self.still = shift, WINDOW, False
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, WINDOW)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels, ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, shift: int | None = None) -> Tensor:
        """The same shape; `shift` pixels for this call, else the block's own.

        `still` blocks do not shift maps of which one side fits into a window.
        """
        shift = self.shift if shift is None else shift
        if self.still and min(x.shape[1:3]) <= self.window:
            shift = 0
        x = x + self.drop_path(self._attend(self.norm1(x), shift))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out

    def _attend(self, x: Tensor, shift: int) -> Tensor:
        height, width = x.shape[1:3]
        window = self.window
        x, mask = pad_to(x, window), None
        size = (x.shape[1], x.shape[2])
        if shift:
            x = x.roll((-shift, -shift), dims=(1, 2))
            mask = shift_mask(size, window, shift).to(x.device)
        x = from_windows(self.attn(to_windows(x, window), mask), window, size)
        if shift:
            x = x.roll((shift, shift), dims=(1, 2))
        return x[:, :height, :width]

    def take_window(self, window: int) -> None:
        """Attend in windows of this side; the bias of the relative places starts anew."""
        if window == self.window:
            return
        old = self.attn
        self.attn = WindowAttention(old.proj.in_features, old.heads, window).to(old.proj.weight)
        self.shift, self.window = window // 2 if self.shift else 0, window


class Layer(nn.Module):
    """The blocks of one layer, unshifted and shifted by turns, and the way to the next layer."""

    def __init__(self, channels: int, heads: int, rates: list[float], *, last: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(channels, heads, shift=SHIFT * (index % 2), drop_path=rate)
            for index, rate in enumerate(rates)
        )
        self.downsample = None if last else PatchMerging(channels)


class Swin(Trunk):
    """(B, 3, H, W) -> four maps at strides 4, 8, 16, 32, sizes rounded up; from 4 pixels a side.

    ImageNet files have none of the norms behind the layers. `grad_ckpt` cuts between the blocks.
    """

    strides = (4, 8, 16, 32)
    file_names = {"norm.": None, "head.": None}
    fresh_groups: tuple[tuple[str, ...], ...] = (("norm0.",), ("norm1.",), ("norm2.",), ("norm3.",))
    smallest = PATCH

    def __init__(
        self,
        width: int,
        depths: Four,
        heads: Four,
        *,
        drop_path: float,
        grad_ckpt: bool = False,
    ) -> None:
        super().__init__(grad_ckpt)
        self.channels = (width, 2 * width, 4 * width, 8 * width)
        self.depths, self.heads = depths, heads
        self.rates = rising_rates(drop_path, depths)
        self.patch_embed = PatchEmbed(width)
        self.layers = nn.ModuleList(
            Layer(channels, heads[index], self.rates[index], last=index == 3)
            for index, channels in enumerate(self.channels)
        )
        init_transformer(self.layers)
        for index, channels in enumerate(self.channels):
            self.add_module(f"norm{index}", nn.LayerNorm(channels))

    def adapt_to_file(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Takes the windows of the file: their side, and whether small maps are shifted.

        Published sides are 7 and 12. Other programs do not shift a map of which one side fits
        into a window; an entry `still_windows` says so and goes into checkpoints.
        """
        if not state:
            return state
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            for position, block in enumerate(layer.blocks):
                assert isinstance(block, SwinBlock)
                table = state.get(f"layers.{number}.blocks.{position}.{TABLE}")
                side = 0 if table is None else math.isqrt(len(table))
                if table is not None and side % 2 and side * side == len(table):
                    block.take_window((side + 1) // 2)
                block.still = STILL_ENTRY in state
        if STILL_ENTRY in state:
            self.register_buffer(STILL_ENTRY, torch.ones(1).to(self.patch_embed.proj.weight.device))
        elif STILL_ENTRY in self._buffers:
            delattr(self, STILL_ENTRY)
        return state

    def forward(self, images: Tensor) -> list[Tensor]:
        """The four maps; UserError for an image smaller than one patch."""
        self.check_size(images)
        levels: list[Tensor] = []
        tokens = self.patch_embed(images)
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            levels = self.levels(index, layer, tokens, levels)
            if layer.downsample is not None:
                tokens = layer.downsample(levels[-1])
        return [as_map(self.normed(index, level)) for index, level in enumerate(levels)]

    def levels(
        self, index: int, layer: Layer, tokens: Tensor, levels: list[Tensor]
    ) -> list[Tensor]:
        """Tokens of the layers so far, with those of layer `index` from its first `tokens`."""
        for block in layer.blocks:
            tokens = self.run(block, tokens)
        return [*levels, tokens]

    def normed(self, index: int, level: Tensor) -> Tensor:
        """What the heads see of a level."""
        out: Tensor = self.get_submodule(f"norm{index}")(level)
        return out
