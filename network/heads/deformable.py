# SPDX-License-Identifier: Apache-2.0
"""Context by deformable attention: an encoder over feature levels, a decoder of pixel queries.

Sources: Zhu et al., "Deformable DETR" (2021); Zhu et al., "UN-EPT: Unified Efficient Pyramid
Transformer for Semantic Segmentation" (2021), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.ops.deform_attn import deformable_attention
from network.ops.resize import Size, size_of

TEMPERATURE = 10000.0


def sine_position(size: Size, channels: int, like: Tensor | None = None) -> Tensor:
    """(channels, H, W): the first half of the channels tells the row, the second the column.

    Of each half, even channels hold the sine and odd ones the cosine; a side counts 2 pi. Made
    on the device of `like`.
    """
    device = None if like is None else like.device
    half = channels // 2
    pair = torch.arange(half, device=device) // 2
    divisor = TEMPERATURE ** (2 * pair / half)

    def along(length: int) -> Tensor:
        step = torch.scalar_tensor(2 * math.pi / (length + 1e-6), device=device)
        place = torch.arange(1, length + 1, device=device) * step
        angle = place[:, None] / divisor
        return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=-1).flatten(1)

    height, width = size
    rows, columns = along(height).T, along(width).T
    return torch.cat(
        [
            rows[:, :, None].expand(half, height, width),
            columns[:, None, :].expand(half, height, width),
        ]
    )


def cell_centres(size: Size, like: Tensor) -> Tensor:
    """(H * W, 2): (x, y) of every cell of a map, row by row, 0..1 from edge to edge; float32."""
    height, width = size
    y = (torch.arange(height, device=like.device) + 0.5) / height
    x = (torch.arange(width, device=like.device) + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)


def starting_offsets(heads: int, levels: int, points: int) -> Tensor:
    """(heads * levels * points * 2,): every head looks its own way, point k at distance k + 1."""
    angle = 2 * math.pi * torch.arange(heads) / heads
    direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
    direction = direction / direction.abs().amax(-1, keepdim=True)
    distance = torch.arange(1, points + 1)
    grid = direction[:, None, None] * distance[:, None]
    return grid.expand(heads, levels, points, 2).flatten()


class DeformableAttention(nn.Module):
    """Queries (B, Q, C) look at `points` places on each of `levels` maps, per head.

    Keys `sampling_offsets`, `attention_weights`, `value_proj`, `output_proj`.
    """

    def __init__(self, width: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.grid = (heads, levels, points)
        self.sampling_offsets = nn.Linear(width, heads * levels * points * 2)
        self.attention_weights = nn.Linear(width, heads * levels * points)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)

    def init_weights(self) -> None:
        """Published initial values."""
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(starting_offsets(*self.grid))
        for layer in (self.attention_weights, self.value_proj, self.output_proj):
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.xavier_uniform_(self.value_proj.weight)
        nn.init.xavier_uniform_(self.output_proj.weight)

    def sampling(
        self, queries: Tensor, references: Tensor, shapes: Sequence[Size]
    ) -> tuple[Tensor, Tensor]:
        """Where the queries look, (B, Q, M, L, K, 2) in 0..1, and how much, (B, Q, M, L, K).

        `references` (Q, 2) are the places of the queries, `shapes` the sizes of the levels.
        """
        heads, levels, points = self.grid
        offsets = self.sampling_offsets(queries).unflatten(-1, (*self.grid, 2)).float()
        size = torch.tensor([(width, height) for height, width in shapes])
        size = size.to(offsets, non_blocking=True)
        places = references[:, None, None, None] + offsets / size[:, None]
        weights = self.attention_weights(queries).unflatten(-1, (heads, levels * points))
        return places, weights.softmax(-1).unflatten(-1, (levels, points))

    def forward(
        self, queries: Tensor, references: Tensor, cells: Tensor, shapes: Sequence[Size]
    ) -> Tensor:
        """(B, Q, C); `cells` (B, S, C) are those of all levels, level by level."""
        places, weights = self.sampling(queries, references, shapes)
        value = self.value_proj(cells).unflatten(-1, (self.grid[0], -1))
        out: Tensor = self.output_proj(deformable_attention(value, shapes, places, weights))
        return out


class BatchAttention(nn.MultiheadAttention):
    """The step that the publication calls self-attention of the queries, (B, Q, C) -> the same.

    As published it runs along the batch: every query attends to the queries at its own position
    in the images of the batch (`mixed`). With one image that is a projection alone, which is
    what each image gets here by default.
    """

    def project(self, x: Tensor) -> Tensor:
        """What the attention gives to an image that is alone in its batch."""
        width = self.embed_dim
        weight, bias = self.in_proj_weight, self.in_proj_bias
        assert weight is not None and bias is not None
        value = F.linear(x, weight[2 * width :], bias[2 * width :])
        if self.training:  # dropout of attention weights that are all 1
            kept = F.dropout(value.new_ones(*value.shape[:-1], self.num_heads, 1), self.dropout)
            value = (value.unflatten(-1, (self.num_heads, -1)) * kept).flatten(-2)
        out: Tensor = self.out_proj(value)
        return out

    def mixed(self, x: Tensor) -> Tensor:
        """As published: images of a batch attend to each other at equal positions."""
        out: Tensor = super().forward(x, x, x, need_weights=False)[0]
        return out


class FeedForward(nn.Module):
    """Keys `linear1`, `linear2` of a layer, with its dropouts."""

    linear1: nn.Linear
    linear2: nn.Linear
    dropout: nn.Dropout

    def add_feed_forward(self, width: int, hidden: int, dropout: float) -> None:
        """The two linear layers and the dropout of all steps."""
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def feed_forward(self, x: Tensor) -> Tensor:
        """The step without residual and norm."""
        out: Tensor = self.dropout(self.linear2(self.dropout(F.relu(self.linear1(x)))))
        return out


class EncoderLayer(FeedForward):
    """Every cell of every level gathers from all levels; norms after the sums."""

    def __init__(
        self, width: int, heads: int, levels: int, points: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(width, heads, levels, points)
        self.norm1 = nn.LayerNorm(width)
        self.add_feed_forward(width, hidden, dropout)
        self.norm2 = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, position: Tensor, references: Tensor, shapes: Sequence[Size]
    ) -> Tensor:
        """x (B, S, C); position (S, C) is added to the queries, not to the values."""
        gathered = self.self_attn(x + position, references, x, shapes)
        x = self.norm1(x + self.dropout(gathered))
        out: Tensor = self.norm2(x + self.feed_forward(x))
        return out


class DecoderLayer(FeedForward):
    """Queries: batch step, gathering from the encoded levels, feed-forward; norms after.

    The first step has `norm2`, the second `norm1`, as in the published weights.
    """

    def __init__(
        self, width: int, heads: int, levels: int, points: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.cross_attn = DeformableAttention(width, heads, levels, points)
        self.norm1 = nn.LayerNorm(width)
        self.self_attn = BatchAttention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.add_feed_forward(width, hidden, dropout)
        self.norm3 = nn.LayerNorm(width)

    def forward(
        self,
        x: Tensor,
        references: Tensor,
        memory: Tensor,
        shapes: Sequence[Size],
        mix_batch: bool,
    ) -> Tensor:
        """x (B, Q, C), memory (B, S, C)."""
        step = self.self_attn.mixed(x) if mix_batch else self.self_attn.project(x)
        x = self.norm2(x + self.dropout(step))
        gathered = self.cross_attn(x, references, memory, shapes)
        x = self.norm1(x + self.dropout(gathered))
        out: Tensor = self.norm3(x + self.feed_forward(x))
        return out


class Layers(nn.Module):
    """Layers under the key `layers`."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class ContextBranch(nn.Module):
    """Levels and queries -> refined queries (B, Q, C).

    `depth` encoder layers over `levels` maps of `width` channels, then `depth` decoder layers.
    """

    def __init__(
        self,
        width: int = 256,
        *,
        heads: int = 8,
        levels: int = 3,
        points: int = 16,
        depth: int = 2,
        hidden: int = 2048,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        sizes = (width, heads, levels, points, hidden, dropout)
        self.level_embed = nn.Parameter(torch.empty(levels, width))
        self.encoder = Layers([EncoderLayer(*sizes) for _ in range(depth)])
        self.decoder = Layers([DecoderLayer(*sizes) for _ in range(depth)])
        self._init_weights()

    def _init_weights(self) -> None:
        for item in self.parameters():
            if item.dim() > 1:
                nn.init.xavier_uniform_(item)
        for module in self.modules():
            if isinstance(module, DeformableAttention):
                module.init_weights()
        nn.init.normal_(self.level_embed)

    def positions(self, levels: Sequence[Tensor]) -> Tensor:
        """(S, C): sine position and level vector of every cell."""
        width = self.level_embed.shape[1]
        parts = [
            sine_position(size_of(x), width, x).flatten(1).T + vector
            for x, vector in zip(levels, self.level_embed, strict=True)
        ]
        return torch.cat(parts)

    def encode(self, levels: Sequence[Tensor]) -> Tensor:
        """(B, S, C): the cells of all levels (B, C, h, w) after the encoder."""
        shapes = [size_of(x) for x in levels]
        cells = torch.cat([x.flatten(2).transpose(1, 2) for x in levels], dim=1)
        position = self.positions(levels)
        references = torch.cat([cell_centres(shape, cells) for shape in shapes])
        for layer in self.encoder.layers:
            cells = layer(cells, position, references, shapes)
        return cells

    def forward(
        self, levels: Sequence[Tensor], queries: Tensor, grid: Size, mix_batch: bool = False
    ) -> Tensor:
        """levels: L maps (B, C, h, w); queries (B, rows * columns, C) of `grid`, row by row.

        `mix_batch`: the images of a batch see each other, see `BatchAttention`.
        """
        memory = self.encode(levels)
        shapes = [size_of(x) for x in levels]
        references = cell_centres(grid, queries)
        for layer in self.decoder.layers:
            queries = layer(queries, references, memory, shapes, mix_batch)
        return queries
