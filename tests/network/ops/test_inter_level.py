# SPDX-License-Identifier: Apache-2.0
"""Inter-level attention against the formulas written out token by token."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from network.ops.inter_level import (
    BottomUpAttention,
    InterLevelAttention,
    TopDownAttention,
    recorded_attention,
)

BOTTOM, TOP = 8, 12
CASES = [  # patch, heads, euclidean, bottom size
    (4, 1, False, (6, 4)),
    (4, 2, False, (5, 7)),
    (2, 1, False, (5, 4)),
    (6, 1, False, (7, 6)),
    (8, 4, False, (6, 9)),
    (4, 1, True, (6, 5)),
    (2, 2, True, (4, 4)),
]


def lively(module: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for item in module.parameters():
        nn.init.normal_(item, std=0.5)
    return module.double()


def scores_of(module: InterLevelAttention, query: Tensor, key: Tensor) -> Tensor:
    """(G,) from a projected query and key."""
    q, k = (x.view(module.heads, -1) for x in (query, key))
    return module.scale * ((q - k).norm(dim=-1) if module.euclidean else (q * k).sum(-1))


def window(module: InterLevelAttention, y: int, x: int) -> list[tuple[int, int, int]]:
    """Place, row and column of all children of a parent."""
    patch = module.patch
    before = (patch - 1) // 2
    return [
        (r * patch + c, 2 * y - before + r, 2 * x - before + c)
        for r in range(patch)
        for c in range(patch)
    ]


def places(module: InterLevelAttention) -> Tensor:
    return module.relative_position_init + module.relative_position_bias_table


def mix(module: InterLevelAttention, weights: Tensor, values: Tensor) -> Tensor:
    """weights (n, G), values (n, d) -> projected (C,)."""
    joint = (weights[..., None] * values.view(len(values), module.heads, -1)).sum(0).flatten()
    return module.proj(joint)


def slow_bottom_up(module: BottomUpAttention, top: Tensor, bottom: Tensor) -> Tensor:
    out = torch.empty_like(top)
    for y in range(top.shape[0]):
        for x in range(top.shape[1]):
            scores, values = [], []
            for place, row, column in window(module, y, x):
                inside = 0 <= row < bottom.shape[0] and 0 <= column < bottom.shape[1]
                child = bottom[row, column] if inside else torch.zeros_like(bottom[0, 0])
                key, value = module.kv(child).chunk(2)
                scores.append(scores_of(module, module.q(top[y, x]), key) + places(module)[place])
                values.append(value)
            weights = torch.stack(scores).softmax(0)
            out[y, x] = mix(module, weights, torch.stack(values))
    return out


def slow_top_down(module: TopDownAttention, bottom: Tensor, top: Tensor) -> Tensor:
    pairs: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
    for y in range(top.shape[0]):
        for x in range(top.shape[1]):
            key, value = module.kv(top[y, x]).chunk(2)
            for place, row, column in window(module, y, x):
                if 0 <= row < bottom.shape[0] and 0 <= column < bottom.shape[1]:
                    query = module.q(bottom[row, column])
                    score = scores_of(module, query, key) + places(module)[place]
                    pairs.setdefault((row, column), []).append((score, value))
    out = torch.empty_like(bottom)
    for (row, column), found in pairs.items():
        weights = torch.stack([score for score, _ in found]).softmax(0)
        out[row, column] = mix(module, weights, torch.stack([value for _, value in found]))
    return out


def levels(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    top_size = [-(-side // 2) for side in size]
    bottom = torch.randn(1, *size, BOTTOM, generator=generator, dtype=torch.float64)
    return bottom, torch.randn(1, *top_size, TOP, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("patch", "heads", "euclidean", "size"), CASES)
@torch.no_grad()
def test_both_directions_equal_the_formulas(
    patch: int, heads: int, euclidean: bool, size: tuple[int, int]
) -> None:
    bottom, top = levels(size)
    options = {"patch": patch, "heads": heads, "euclidean": euclidean}
    up = lively(BottomUpAttention(TOP, BOTTOM, **options))
    torch.testing.assert_close(up(top, bottom)[0], slow_bottom_up(up, top[0], bottom[0]))
    down = lively(TopDownAttention(BOTTOM, TOP, **options))
    torch.testing.assert_close(down(bottom, top)[0], slow_top_down(down, bottom[0], top[0]))


@pytest.mark.parametrize("heads", [1, 2])
@torch.no_grad()
def test_recorded_weights_are_shares(heads: int) -> None:
    bottom, top = levels((5, 6))
    up = lively(BottomUpAttention(TOP, BOTTOM, heads=heads))
    down = lively(TopDownAttention(BOTTOM, TOP, heads=heads))
    pair = nn.ModuleDict({"up": up, "down": down})
    with recorded_attention(pair) as recorded:
        up(top, bottom)
        down(bottom, top)
    assert [(name, len(uses)) for name, uses in recorded.items()] == [("up", 1), ("down", 1)]
    (from_children,), (from_parents,) = recorded["up"], recorded["down"]
    assert from_children.shape == from_parents.shape == (1, heads, 16, 3, 3)
    torch.testing.assert_close(from_children.sum(2), torch.ones(1, heads, 3, 3).double())
    torch.testing.assert_close(from_parents.sum(), torch.tensor(heads * 5.0 * 6).double())
    up(top, bottom)
    assert len(recorded["up"]) == 1 and up.seen is None


def test_large_scores_do_not_overflow() -> None:
    bottom, top = levels((4, 4))
    down = lively(TopDownAttention(BOTTOM, TOP))
    out = down(1e4 * bottom, 1e4 * top)
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(item.grad).all() for item in down.parameters())


def test_the_gradient_is_that_of_the_formulas() -> None:
    bottom, top = (x.requires_grad_() for x in levels((5, 4)))
    up, down = lively(BottomUpAttention(TOP, BOTTOM)), lively(TopDownAttention(BOTTOM, TOP))
    for fast, slow, module in (
        (up(top, bottom)[0], slow_bottom_up(up, top[0], bottom[0]), up),
        (down(bottom, top)[0], slow_top_down(down, bottom[0], top[0]), down),
    ):
        asked = [bottom, top, *module.parameters()]
        got, want = (torch.autograd.grad(each.square().sum(), asked) for each in (fast, slow))
        for ours, theirs in zip(got, want, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-7)
