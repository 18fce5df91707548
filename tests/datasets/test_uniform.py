# SPDX-License-Identifier: Apache-2.0
"""The class-uniform list of an epoch: counts, order, repeats, and what it depends on."""

from __future__ import annotations

from collections import Counter

import pytest

from datasets.uniform import EpochPlan, epoch_list


def points(*counts: int) -> dict[int, list[tuple[int, int, int]]]:
    """Per class so many points; the item number tells the class: 1000 * class + number."""
    return {
        k: [(1000 * k + n, n, 2 * n) for n in range(count)]
        for k, count in enumerate(counts)
        if count
    }


def test_whole_images_come_first_then_classes_in_order():
    entries = epoch_list(20, points(9, 9, 9), 0.5, 3, seed=0, epoch=0)
    assert [point is None for _, point in entries] == [True] * 11 + [False] * 9
    assert [item // 1000 for item, _ in entries[11:]] == [0] * 3 + [1] * 3 + [2] * 3


def test_points_arrive_as_item_and_xy():
    entries = epoch_list(6, points(5), 1.0, 1, seed=0, epoch=0)
    assert {(item, xy) for item, xy in entries} == {(n, (n, 2 * n)) for n in range(5)}


def test_nothing_repeats_before_everything_was_drawn():
    entries = epoch_list(10, points(4), 1.0, 1, seed=3, epoch=5)
    assert sorted(Counter(entries).values()) == [2, 2, 3, 3]
    whole = epoch_list(10, {}, 0.0, 4, seed=3, epoch=5)
    assert sorted(item for item, _ in whole) == list(range(10))


def test_an_absent_class_leaves_the_epoch_shorter():
    entries = epoch_list(20, points(9, 0, 9), 0.6, 3, seed=0, epoch=0)
    assert len(entries) == 20 - 4


def test_bias_multiplies_the_draws_of_its_class():
    entries = epoch_list(30, points(50, 50, 50), 0.6, 3, seed=0, epoch=0, bias=(0.5, 1, 3))
    drawn = Counter(item // 1000 for item, point in entries if point is not None)
    assert drawn == {0: 3, 1: 6, 2: 18}
    assert sum(point is None for _, point in entries) == 12


def test_the_list_is_a_pure_function_of_seed_and_epoch():
    def build(seed: int, epoch: int) -> object:
        return epoch_list(30, points(50, 50), 0.5, 2, seed=seed, epoch=epoch)

    assert build(1, 2) == build(1, 2)
    assert build(1, 2) != build(1, 3)
    assert build(1, 2) != build(2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"pct": 1.5}, r"class_uniform_pct 1\.5"), ({"bias": (1.0,)}, "1 values for 2 classes")],
)
def test_useless_settings_are_refused(arguments, message):
    fixed = {"pct": 0.5, "num_classes": 2, "seed": 0, "epoch": 0}
    with pytest.raises(ValueError, match=message):
        epoch_list(4, points(2, 2), **{**fixed, **arguments})


def test_video_frames_are_drawn_until_max_cu_epoch_and_the_length_stays():
    def of(count: int, *classes: int) -> dict[int, list[tuple[int, int, int]]]:
        return {k: [(item, 1, 1) for item in range(count)] for k in classes}

    plan = EpochPlan(
        num_fine=6, fine=of(5, 0, 1), num_video=3, video=of(2, 0, 1), coarse=of(1, 1),
        boost=(1,), max_cu_epoch=20, pct=0.5, num_classes=2, seed=0,
    )  # fmt: skip
    drawn = [plan(epoch) for epoch in range(20)]
    assert {len(entries) for entries in drawn} == {6}
    assert {item for entries in drawn for item, _ in entries} == set(range(10))
    merged = plan.centroids(0)
    assert [item for item, *_ in merged[0][5:]] == [6, 7]
    assert [item for item, *_ in merged[1][5:]] == [6, 7, 9]
    assert {item for item, _ in plan(20)} <= set(range(6))
