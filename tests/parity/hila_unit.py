# SPDX-License-Identifier: Apache-2.0
"""Recorded update blocks of HILA by themselves."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor

from network.backbones.hila_update import BottomUpUpdate, Hila, TopDownUpdate
from network.ops.inter_level import recorded_attention
from tests.parity import recipe
from tests.parity.core import Check, Row, compare
from tests.parity.fixture import CannotRun, Fixture, Record, first_case

SEEDS = {"top": 201, "bottom": 202}
BLOCKS = {"top_down": TopDownUpdate, "bottom_up": BottomUpUpdate}


def draw(seed: int, height: int, width: int, channels: int) -> Tensor:
    """Tokens (2, height, width, channels) of the recorded generator."""
    generator = np.random.Generator(np.random.PCG64(seed))
    values = generator.standard_normal((2, height * width, channels)).astype(np.float32)
    return torch.from_numpy(values).view(2, height, width, channels)


def seeds_of(header: Record) -> dict[str, int]:
    """The seeds of both levels, which the fixture states in words."""
    text = str(header.get("what", ""))
    found = {level: re.search(rf"X_{level} = PCG64\((\d+)\)", text) for level in SEEDS}
    return {level: int(match[1]) if match else SEEDS[level] for level, match in found.items()}


def levels_of(case: Record, seeds: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Bottom and top tokens of a case."""
    height, width = case["top_height"], case["top_width"]
    top = draw(seeds["top"], height, width, case["top_dim"])
    return draw(seeds["bottom"], 2 * height, 2 * width, case["bottom_dim"]), top


@torch.inference_mode()
def check_case(fixture: Fixture, case: Record, kind: str) -> list[Row]:
    """The updated level, and the weights by window."""
    hila = Hila(
        stages=(2,),
        patch=case["patch_size"],
        info_weights=tuple(case["info_weights"]),
        euclidean=case["euclidean"],
    )
    if kind not in BLOCKS:
        raise CannotRun(f"manifest: {kind} is no known block")
    sizes = (case["bottom_dim"], case["top_dim"])
    heads = case.get("num_heads", 1)
    block = BLOCKS[kind](*sizes, hila, heads=heads, ratio=case["mlp_ratio"]).eval()
    state = recipe.fill(case["manifest"][kind].plain(), fixture.header["gain"])
    block.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    with recorded_attention(block) as recorded:
        out = block(*levels_of(case, seeds_of(fixture.header))).flatten(1, 2)
    weights = next(iter(recorded.values()))[0].movedim(2, -1)  # (B, heads, rows, columns, slots)
    weights = weights.squeeze(1) if heads == 1 else weights
    places = weights.unflatten(-1, (hila.patch, hila.patch))
    return [
        compare(
            f"{fixture.name}/{case['name']}:{kind}:{what}",
            got.numpy(),
            fixture.arrays[f"{case['name']}:{kind}:{what}"],
            **fixture.header["tolerance"].plain(),
        )
        for what, got in (("out", out), ("attn", places))
    ]


def check_units(fixture: Fixture) -> list[Row]:
    """Every block of every case that was recorded."""
    return [
        row
        for case in fixture.cases
        for kind in case["manifest"]
        for row in check_case(fixture, case, kind)
    ]


CHECKS = (
    Check(
        "hila update blocks",
        lambda fixture: "manifest" in first_case(fixture) and "top_dim" in first_case(fixture),
        check_units,
        {
            "cases.*.name": "names the arrays",
            "cases.*.euclidean": "of no effect with a window of one parent",
        },
    ),
)
