# SPDX-License-Identifier: Apache-2.0
"""Attention between two neighbouring levels of a pyramid, in both directions.

A top token ("parent") covers a window of `patch` x `patch` bottom tokens ("children"); windows lie
two children apart, so a child has up to (patch / 2)^2 parents. Bottom-up, a parent reads its
children; top-down, a child reads its parents, which compete for it.

Legend: (B, h, w, C_t) top, (B, H, W, C_b) bottom with h = ceil(H / 2); G heads; n = patch / 2.
Padded by the border of the windows, the bottom map falls into cells of 2 x 2 children that have
the same n x n parents: (B, h + n - 1, 2, w + n - 1, 2, C_b). A *shift* (i, j) joins cell (a, b) and
parent (a - i, b - j), and each loop over shifts below is one product of whole maps; children are
neither copied per window nor projected more than once.

Source: Leung et al., "Improving Semantic Segmentation in Transformers using Hierarchical
Inter-Level Attention" (2022), section 3.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InterLevelAttention(nn.Module):
    """What both directions share: parameters, and the scores of all pairs.

    The query level has `query_channels`, the level it reads `context_channels`; the inner width
    is the smaller of the two. The scale is that of the query's own width, as published.
    `euclidean` scores by distance instead of by product: the farther, the higher, as published.
    """

    def __init__(
        self,
        query_channels: int,
        context_channels: int,
        *,
        heads: int = 1,
        patch: int = 4,
        euclidean: bool = False,
    ) -> None:
        super().__init__()
        assert patch % 2 == 0
        width = min(query_channels, context_channels)
        self.heads, self.patch, self.euclidean = heads, patch, euclidean
        self.scale = (query_channels / heads) ** -0.5
        # Two parameters of one effect: their sum, a score for each place in the window.
        self.relative_position_init = nn.Parameter(torch.zeros(patch * patch))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(patch * patch))
        self.q = nn.Linear(query_channels, width)
        self.kv = nn.Linear(context_channels, 2 * width)
        self.proj = nn.Linear(width, query_channels)
        self.seen: list[Tensor] | None = None  # filled inside `recorded_attention`

    def by_head(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights of query, key, value (G, e, C) and projection (C, G, e), e = width / G."""
        key, value = self.kv.weight.unflatten(0, (2, self.heads, -1))
        query = self.q.weight.unflatten(0, (self.heads, -1))
        return query, key, value, self.proj.weight.unflatten(1, (self.heads, -1))

    def biases(self) -> tuple[Tensor, Tensor]:
        """Biases of query and key, each (G, e)."""
        key = self.kv.bias.chunk(2)[0]
        return self.q.bias.unflatten(0, (self.heads, -1)), key.unflatten(0, (self.heads, -1))

    def out_bias(self) -> Tensor:
        """What the biases of value and projection add: (C,), since all weights sum to 1."""
        return self.proj.bias + self.proj.weight @ self.kv.bias.chunk(2)[1]

    def shifts(self) -> Iterator[tuple[int, int]]:
        """All (i, j), row by row."""
        return itertools.product(range(self.patch // 2), range(self.patch // 2))

    def place_scores(self, i: int, j: int) -> Tensor:
        """Scores of a cell's places in the window of the parent at shift (i, j): (2, 1, 2, 1)."""
        places = self.relative_position_init + self.relative_position_bias_table
        return places.view(-1, 2, self.patch // 2, 2)[i, :, j].view(2, 1, 2, 1)

    def cells(self, bottom: Tensor, size: tuple[int, int]) -> Tensor:
        """Bottom tokens in cells, zeros outside the map: (B, h + n - 1, 2, w + n - 1, 2, C_b)."""
        before, sides = (self.patch - 1) // 2, []
        for length, parents in zip(bottom.shape[1:3], size, strict=True):
            cells = parents + self.patch // 2 - 1
            sides.append((before, 2 * cells - before - length))
        (top, under), (left, right) = sides
        padded = F.pad(bottom, (0, 0, left, right, top, under))
        return padded.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))

    def spread(self, parents: Tensor, value: float = 0.0) -> list[Tensor]:
        """For each shift the parent of every cell, (B, h + n - 1, 1, w + n - 1, 1, ...).

        Cells without a parent there get `value`.
        """
        border, (height, width) = self.patch // 2 - 1, parents.shape[1:3]
        if border:
            rest = (0, 0) * (parents.dim() - 3)
            parents = F.pad(parents, (*rest, border, border, border, border), value=value)
        found = []
        for i, j in self.shifts():
            rows = parents.narrow(1, border - i, height + border)
            found.append(rows.narrow(2, border - j, width + border).unsqueeze(2).unsqueeze(4))
        return found

    def pair_scores(self, cells: Tensor, parents: list[Tensor]) -> list[Tensor]:
        """For each shift the score of child and parent, (B, h + n - 1, 2, w + n - 1, 2, G).

        cells (B, ..., G or 1, e); parents as `spread` gives them, with (G, e) at the end.
        """
        if self.euclidean:
            return [self.scale * torch.linalg.vector_norm(cells - each, dim=-1) for each in parents]
        return [(cells * each).sum(dim=-1) for each in parents]

    def record(self, weights: Tensor) -> None:
        """Keep `weights` (B, h, w, G, patch^2) as (B, G, patch^2, h, w) if someone listens."""
        if self.seen is not None:
            self.seen.append(weights.detach().permute(0, 3, 4, 1, 2).clone())

    def by_window(self, pairs: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Values of all pairs, by parent and place: (B, h, w, G, patch^2), row by row."""
        own = [
            each.narrow(1, i, size[0]).narrow(3, j, size[1])
            for each, (i, j) in zip(pairs, self.shifts(), strict=True)
        ]
        n = self.patch // 2
        # (B, h, row, w, column, G, i, j) -> (B, h, w, G, i, row, j, column)
        stacked = torch.stack(own, dim=-1).unflatten(-1, (n, n))
        return stacked.permute(0, 1, 3, 5, 6, 2, 7, 4).flatten(4)


class BottomUpAttention(InterLevelAttention):
    """Every top token reads the window of bottom tokens it covers.

    Children outside the map are zero vectors that take part, as published; so they also are
    beyond an odd border.
    """

    def forward(self, top: Tensor, bottom: Tensor) -> Tensor:
        """(B, h, w, C_t) and (B, H, W, C_b) -> (B, h, w, C_t)."""
        size = (top.shape[1], top.shape[2])
        cells = self.cells(bottom, size)
        pairs = self.pair_scores(*self._scored(top, cells))
        places = zip(pairs, self.shifts(), strict=True)
        scores = self.by_window([each + self.place_scores(i, j) for each, (i, j) in places], size)
        weights = scores.softmax(dim=-1)
        self.record(weights)
        mixed = self._mix(weights, cells, size)
        _, _, value, proj = self.by_head()
        out_weight = torch.einsum("oge,gec->ogc", proj, value).flatten(1)
        return F.linear(mixed.flatten(-2), out_weight, self.out_bias())

    def _scored(self, top: Tensor, cells: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Vectors of children and parents whose products are the scores, up to a constant.

        The key projection is moved to the side of the query, where there are four times fewer
        tokens; the key's bias adds the same to all children of a parent, so it has no effect.
        """
        query, key, _, _ = self.by_head()
        query_bias, key_bias = self.biases()
        if self.euclidean:
            keys = torch.einsum("...c,gec->...ge", cells, key) + key_bias
            return keys, self.spread(self.q(top).unflatten(-1, (self.heads, -1)))
        weight = self.scale * torch.einsum("gec,get->gct", key, query).flatten(0, 1)
        bias = self.scale * torch.einsum("gec,ge->gc", key, query_bias).flatten()
        asked = F.linear(top, weight, bias).unflatten(-1, (self.heads, -1))
        return cells.unsqueeze(-2), self.spread(asked)

    def _mix(self, weights: Tensor, cells: Tensor, size: tuple[int, int]) -> Tensor:
        """Children of every window by their weights: (B, h, w, G, C_b)."""
        n = self.patch // 2
        # (B, h, w, G, patch^2) -> (B, h, row, w, column, G, 1, i, j)
        places = weights.unflatten(-1, (n, 2, n, 2)).permute(0, 1, 5, 2, 7, 3, 4, 6).unsqueeze(6)
        mixed: Tensor | None = None
        for i, j in self.shifts():
            own = cells.narrow(1, i, size[0]).narrow(3, j, size[1]).unsqueeze(-2)
            products = own * places[..., i, j]
            # Plain additions: `sum` over two short inner axes takes 30 times as long on a CPU.
            rows = products[:, :, 0] + products[:, :, 1]
            part = rows[:, :, :, 0] + rows[:, :, :, 1]
            mixed = part if mixed is None else mixed + part
        assert mixed is not None
        return mixed


class TopDownAttention(InterLevelAttention):
    """Every bottom token reads the top tokens whose windows hold it; these compete for it."""

    def forward(self, bottom: Tensor, top: Tensor) -> Tensor:
        """(B, H, W, C_b) and (B, h, w, C_t) -> (B, H, W, C_b)."""
        size = (top.shape[1], top.shape[2])
        cells = self.cells(bottom, size)
        pairs = self.pair_scores(*self._scored(top, cells))
        bounds = self.spread(self._offsets(top), value=-math.inf)
        terms = zip(pairs, bounds, self.shifts(), strict=True)
        scores = [each + bound + self.place_scores(i, j) for each, bound, (i, j) in terms]
        # differs: the published softmax takes no maximum off first and can overflow; and with
        # several heads it divides by the sum of another head.
        weights = torch.stack(scores, dim=-1).softmax(dim=-1)
        self._record(weights, bottom, size)
        _, _, value, proj = self.by_head()
        weight = torch.einsum("oge,get->got", proj, value).flatten(0, 1)
        values = self.spread(F.linear(top, weight).unflatten(-1, (self.heads, -1)))
        mixed: Tensor | None = None
        for index, each in enumerate(values):
            part = weights[..., index].unsqueeze(-1) * each
            mixed = part if mixed is None else mixed + part
        assert mixed is not None
        return self._inside(mixed.sum(dim=-2), bottom) + self.out_bias()

    def _scored(self, top: Tensor, cells: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As `BottomUpAttention._scored`: here the query projection moves to the parents."""
        query, key, _, _ = self.by_head()
        query_bias, key_bias = self.biases()
        if self.euclidean:
            queries = torch.einsum("...c,gec->...ge", cells, query) + query_bias
            keys = torch.einsum("...t,get->...ge", top, key) + key_bias
            return queries, self.spread(keys)
        weight = self.scale * torch.einsum("gec,get->gct", query, key).flatten(0, 1)
        bias = self.scale * torch.einsum("gec,ge->gc", query, key_bias).flatten()
        asked = F.linear(top, weight, bias).unflatten(-1, (self.heads, -1))
        return cells.unsqueeze(-2), self.spread(asked)

    def _offsets(self, top: Tensor) -> Tensor:
        """What the bias of the query adds to the scores of a parent: (B, h, w, G)."""
        if self.euclidean:
            return top.new_zeros(*top.shape[:3], self.heads)
        key, (query_bias, _) = self.by_head()[1], self.biases()
        return F.linear(top, self.scale * torch.einsum("ge,get->gt", query_bias, key))

    def _inside(self, cells: Tensor, bottom: Tensor) -> Tensor:
        """Cells as a map (B, H, W, ...) without the border of the windows."""
        before = (self.patch - 1) // 2
        rows = cells.flatten(3, 4).flatten(1, 2).narrow(1, before, bottom.shape[1])
        return rows.narrow(2, before, bottom.shape[2])

    def _record(self, weights: Tensor, bottom: Tensor, size: tuple[int, int]) -> None:
        """Weights (B, h + n - 1, 2, w + n - 1, 2, G, n^2); places outside the map become 0."""
        if self.seen is not None:
            inside = self.cells(torch.ones_like(bottom[..., :1]), size)
            own = [each * inside for each in weights.unbind(dim=-1)]
            self.record(self.by_window(own, size))


@contextlib.contextmanager
def recorded_attention(net: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Inside, the weights of every inter-level attention of `net` are kept, by module name.

    A list holds one (B, G, patch^2, h, w) for each use, in order; places row by row. Top-down
    weights of a child sum to 1 over its parents, bottom-up weights of a parent over its places.
    """
    found: dict[str, list[Tensor]] = {}
    modules = [(n, m) for n, m in net.named_modules() if isinstance(m, InterLevelAttention)]
    for name, module in modules:
        found[name] = module.seen = []
    try:
        yield found
    finally:
        for _, module in modules:
            module.seen = None
