# SPDX-License-Identifier: Apache-2.0
"""Samplers lose no image, count none twice in evaluation, and resume where they stopped."""

from __future__ import annotations

import numpy as np
import pytest

from datasets.samplers import Draw, EvalSampler, TrainSampler
from tests.parity.published import consecutive_part, spread_part


def plan(length: int):
    return lambda epoch: [(index, (index, epoch) if index % 2 else None) for index in range(length)]


def samplers(length: int, world: int, batch_size: int, seed: int = 0) -> list[TrainSampler]:
    return [TrainSampler(plan(length), seed, rank, world, batch_size) for rank in range(world)]


@pytest.mark.parametrize("num_items", [0, 1, 2, 7, 12])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_shows_every_image_on_exactly_one_rank(num_items, world):
    ranks = [EvalSampler(num_items, rank, world) for rank in range(world)]
    shown = [index for rank in ranks for index in rank]
    assert sorted(shown) == list(range(num_items))
    assert [len(rank) for rank in ranks] == [len(list(rank)) for rank in ranks]
    assert max(map(len, ranks)) - min(map(len, ranks)) <= 1


@pytest.mark.parametrize("length", [1, 5, 12, 13])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_training_covers_the_list_in_whole_batches_of_equal_number(length, world, batch_size):
    ranks = samplers(length, world, batch_size)
    drawn = [[draw.index for draw in rank] for rank in ranks]
    assert {len(indices) for indices in drawn} == {len(ranks[0])}
    assert len(ranks[0]) % batch_size == 0
    merged = [index for step in zip(*drawn, strict=True) for index in step]
    assert set(merged) == set(range(length))
    assert len(merged) - length < world * batch_size
    assert merged[length:] == (merged[:length] * len(merged))[: len(merged) - length]


def test_all_ranks_together_draw_what_one_rank_draws():
    one = list(samplers(12, 1, 6)[0])
    three = [list(rank) for rank in samplers(12, 3, 2)]
    assert [draw for step in zip(*three, strict=True) for draw in step] == one


def test_padded_repeats_are_augmented_differently():
    seeds = [draw.seed for rank in samplers(5, 2, 2) for draw in rank]
    assert len(set(seeds)) == len(seeds)


def test_epochs_and_seeds_give_other_orders_and_augmentations():
    sampler = TrainSampler(plan(20), 0, 0, 1, 1)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert [draw.index for draw in first] != [draw.index for draw in second]
    assert not {draw.seed for draw in first} & {draw.seed for draw in second}
    other = TrainSampler(plan(20), 1, 0, 1, 1)
    assert [draw.index for draw in other] != [draw.index for draw in first]


def test_centroids_stay_with_their_items():
    for draw in TrainSampler(plan(9), 0, 0, 1, 1):
        assert draw.centroid == ((draw.index, 0) if draw.index % 2 else None)


@pytest.mark.parametrize("start_step", [0, 1, 3, 6])
def test_resuming_gives_exactly_the_rest_of_the_epoch(start_step):
    for rank, whole in zip(samplers(23, 2, 2), samplers(23, 2, 2), strict=True):
        whole.set_epoch(4)
        rank.set_epoch(4, start_step)
        assert list(rank) == list(whole)[start_step * 2 :]
        assert len(rank) == len(whole)
        rank.set_epoch(5)
        whole.set_epoch(5)
        assert list(rank) == list(whole)


def test_the_generator_of_a_draw_is_its_seed_alone():
    draws = [Draw(index, None, (1, 2, 3)).generator().integers(0, 2**40, 4) for index in (0, 5)]
    assert np.array_equal(*draws)
    other = Draw(0, None, (1, 2, 4)).generator().integers(0, 2**40, 4)
    assert not np.array_equal(draws[0], other)


def test_an_empty_training_list_is_refused():
    with pytest.raises(ValueError, match="training list is empty"):
        TrainSampler(plan(0), 0, 0, 1, 1)


@pytest.mark.parametrize("tail", ["pad", "drop"])
@pytest.mark.parametrize("part_of", [spread_part, consecutive_part])
def test_splits_that_divide_have_equal_parts(tail, part_of):
    parts = [part_of(range(11), rank, 3, multiple=2, tail=tail) for rank in range(3)]
    assert {len(part) for part in parts} == {4 if tail == "pad" else 2}
    merged = [index for part in parts for index in part]
    assert set(merged) == set(range(11 if tail == "pad" else 6))
