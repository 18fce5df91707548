# SPDX-License-Identifier: Apache-2.0
"""Processes that play the ranks of a run: batches, random numbers, statistics, the mean loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from datasets.classify import ImageSampler
from datasets.samplers import TrainSampler
from engine.resume_rules import compare_facts, ranks_of
from engine.turns import Turns
from runtime import seeds

LAYOUTS = [(4, 2), (4, 1), (4, 4), (6, 3), (6, 4), (2, 4), (3, 2)]  # ranks, processes


def samplers(kind: type, ranks: int, world: int, layout: int | None = None) -> list[Any]:
    """Twenty-three images in batches of two for all processes."""
    if kind is TrainSampler:
        make = lambda rank: TrainSampler(  # noqa: E731
            lambda epoch: [(i, None) for i in range(23)], 5, rank, world, 2, layout
        )
    else:
        make = lambda rank: ImageSampler(23, 5, rank, world, 2, 1, layout)  # noqa: E731
    return [make(rank) for rank in range(ranks)]


def batches(sampler: Any, epoch: int, start: int = 0) -> list[list[Any]]:
    sampler.set_epoch(epoch, start)
    draws = list(sampler)
    return [draws[place : place + 2] for place in range(0, len(draws), 2)]


@pytest.mark.parametrize("kind", [TrainSampler, ImageSampler])
@pytest.mark.parametrize(("ranks", "world"), LAYOUTS)
def test_processes_share_the_batches_of_the_ranks_step_by_step(
    kind: type, ranks: int, world: int
) -> None:
    wanted = [batches(each, 3) for each in samplers(kind, ranks, ranks)]
    in_order = [batch for step in zip(*wanted, strict=True) for batch in step]
    shared = samplers(kind, world, world, ranks)
    parts = [batches(each, 3) for each in shared]
    merged = [batch for step in zip(*parts, strict=True) for batch in step]
    assert merged[: len(in_order)] == in_order
    assert all(batch == in_order[-1] for batch in merged[len(in_order) :])
    assert {each.steps for each in shared} == {len(wanted[0])}
    assert {len(each) for each in shared} == {2 * len(parts[0])}


@pytest.mark.parametrize(("ranks", "world"), [(4, 2), (2, 4)])
def test_a_start_inside_an_epoch_drops_what_the_ranks_have_seen(ranks: int, world: int) -> None:
    for sampler in samplers(TrainSampler, world, world, ranks):
        whole = batches(sampler, 1)
        assert batches(sampler, 1, 2) == whole[2 * ranks // world :]


@pytest.mark.parametrize(("ranks", "world"), LAYOUTS)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_mean_over_processes_is_the_mean_over_the_batches_of_a_step(
    ranks: int, world: int, steps: int
) -> None:
    losses = torch.rand(steps * ranks + world)
    total = torch.zeros(())
    for rank in range(world):
        turns = Turns(ranks, rank, world)
        numbers = [rank + index * world for index in range(turns.batches(steps))]
        total += sum(turns.part(losses[number], number, steps) for number in numbers)
    torch.testing.assert_close(total / world, losses[: steps * ranks].mean())


def draw() -> tuple[float, float]:
    return float(torch.rand(())), float(np.random.random())


def test_each_rank_that_is_played_goes_on_with_its_own_random_numbers() -> None:
    states, wanted = [], []
    for rank in range(4):
        seeds.seed_everything(3, rank, deterministic=False)
        states.append(seeds.random_state())
        wanted.append([draw() for _ in range(3)])
    seeds.seed_everything(9, 0, deterministic=False)
    turns = Turns(4, 1, 2)
    turns.set_random_states(states)
    got: dict[int, list[tuple[float, float]]] = {1: [], 3: []}
    for iteration in range(3):
        for number in (1, 3):
            with turns.turn(number, iteration, []):
                got[number].append(draw())
    assert got == {1: wanted[1], 3: wanted[3]}


def test_one_process_saves_the_random_states_of_all_ranks() -> None:
    states = []
    for rank in range(3):
        seeds.seed_everything(3, rank, deterministic=False)
        states.append(seeds.random_state())
    turns = Turns(3, 0, 1)
    turns.set_random_states(states)
    for number in range(3):
        with turns.turn(number, 0, []):
            pass
    saved = turns.random_states()
    assert [state["numpy"] for state in saved] == [state["numpy"] for state in states]


def test_ranks_that_cannot_be_played_draw_by_seed_step_and_batch() -> None:
    """Whichever process has the batch, and after every restart, the numbers are the same."""
    found = []
    for world, rank, number in ((4, 1, 5), (8, 5, 5), (4, 1, 1)):
        turns = Turns(6, rank, world, seed=3)
        assert not turns.keeps_draws
        with turns.turn(number, 7, []):
            found.append(draw())
    assert found[0] == found[1] != found[2]


def test_statistics_are_those_of_the_first_rank() -> None:
    norm, twin = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    images = torch.rand(4, 8, 2)
    turns = Turns(2, 0, 1)
    turns.set_random_states([seeds.random_state()] * 2)
    for number, batch in enumerate(images):
        with turns.turn(number, 0, norm.buffers()):
            norm(batch)
    twin(images[0])
    twin(images[2])
    for name, value in twin.state_dict().items():
        assert torch.equal(norm.state_dict()[name], value), name


FILE = {"world_size": 4, "settings": {"bs_trn": 2, "accum_steps": 3}}


@pytest.mark.parametrize(
    ("processes", "bs_trn", "accum_steps", "ranks"),
    [
        (4, 2, 3, 4),
        (2, 2, 3, 4),  # two batches of each place
        (3, 2, 3, 4),  # a rank's places
        (12, 2, 3, 4),
        (1, 2, 3, 4),
        (8, 1, 3, 8),  # another batch, the same step: a layout of its own
        (5, 2, 3, 5),
    ],
)
def test_the_layout_of_the_file_stays_if_its_batches_can_be_shared(
    processes: int, bs_trn: int, accum_steps: int, ranks: int
) -> None:
    own = {"bs_trn": bs_trn, "accum_steps": accum_steps}
    assert ranks_of(FILE, own, processes) == ranks
    refused = compare_facts(FILE, {"settings": own}, ranks, {})
    if processes != 5:
        assert refused == []
        return
    assert refused == [
        "been written by 4 processes, this run has 5 (a step has 24 images in 12 batches of "
        "--bs_trn 2: as many processes as divide them can go on, 1, 2, 3, 4, 6, 12)"
    ]
