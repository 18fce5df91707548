# SPDX-License-Identifier: Apache-2.0
"""DeiT-B, distilled, as a trunk: three taps of the token stream at stride 16.

Source: Touvron et al., "Training data-efficient image transformers & distillation through
attention" (2021).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.backbones.trunk import Trunk
from network.ops.resize import Size, same_size, size_of
from runtime.errors import UserError

EXTRA_TOKENS = 2  # class and distillation, before the patches
NORM_EPS = 1e-6


class Attention(nn.Module):
    """Self-attention among all tokens, (B, N, C) -> (B, N, C); keys `qkv`, `proj`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between; keys `fc1`, `fc2`."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Attention and MLP, each normalised before and added to the stream."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width, mlp_ratio * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PatchEmbed(nn.Module):
    """A linear map of every patch; key `proj`."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.proj(images)
        return out


def resample_positions(positions: Tensor, old: Size, new: Size) -> Tensor:
    """Position rows (1, 2 + h*w, C) of grid `old` for grid `new`; the two extra rows are kept.

    Bicubic, as published for loading at another image size.
    """
    if same_size(old, new):
        return positions
    extra, grid = positions[:, :EXTRA_TOKENS], positions[:, EXTRA_TOKENS:]
    maps = grid.transpose(1, 2).unflatten(2, old)
    maps = F.interpolate(maps, size=new, mode="bicubic", align_corners=False)
    return torch.cat([extra, maps.flatten(2).transpose(1, 2)], dim=1)


class DeiT(Trunk):
    """(B, 3, H, W), sides multiples of the patch -> the stream after each third of the blocks.

    Maps are (B, width, H / patch, W / patch), raw: no final norm. `grid` (rows, columns) is that
    of the learned positions, which are resampled for images of another size.
    """

    patch = smallest = 16
    file_names = {"norm.": None, "head.": None, "head_dist.": None}

    def __init__(
        self,
        grid: Size,
        *,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_ratio: int = 4,
        grad_ckpt: bool = False,
    ) -> None:
        super().__init__(grad_ckpt)
        assert depth % 3 == 0
        self.grid = grid
        self.channels, self.strides = (width,) * 3, (self.patch,) * 3
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, EXTRA_TOKENS + grid[0] * grid[1], width))
        self.patch_embed = PatchEmbed(width, self.patch)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth))
        self._init_weights()

    def _init_weights(self) -> None:
        """As DeiT starts: normal with deviation 0.02, cut at 2, biases zero."""
        for item in (self.cls_token, self.dist_token, self.pos_embed):
            nn.init.trunc_normal_(item, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        patches = self.patch_embed(images)
        size = size_of(patches)
        tokens = patches.flatten(2).transpose(1, 2)
        extra = torch.cat([self.cls_token, self.dist_token], dim=1).expand(len(images), -1, -1)
        x = torch.cat([extra.to(tokens), tokens], dim=1)
        x = x + resample_positions(self.pos_embed, self.grid, size)
        maps = []
        for number, block in enumerate(self.blocks, 1):
            x = self.run(block, x)
            if number % (len(self.blocks) // 3) == 0:
                maps.append(x[:, EXTRA_TOKENS:].transpose(1, 2).unflatten(2, size))
        return maps

    def adapt_to_file(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of an ImageNet file with the positions resampled to the grid of this trunk.

        Raises UserError if the file's patches form no square.
        """
        positions = state.get("pos_embed")
        if positions is None or positions.ndim != 3 or positions.shape == self.pos_embed.shape:
            return state
        count = positions.shape[1] - EXTRA_TOKENS
        side = math.isqrt(max(count, 0))
        if side * side != count:
            raise UserError(
                f"pos_embed has {positions.shape[1]} rows: without the class and distillation "
                f"rows {count}, which is no square grid; a distilled DeiT file is wanted"
            )
        return {**state, "pos_embed": resample_positions(positions, (side, side), self.grid)}
