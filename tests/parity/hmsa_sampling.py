# SPDX-License-Identifier: Apache-2.0
"""Recorded class-uniform centroids and epochs, and rank splits of HMSA."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from datasets.cityscapes import SPEC
from datasets.uniform import epoch_list
from tests.parity import recipe
from tests.parity.core import Check, Row, compare
from tests.parity.fixture import CannotRun, Fixture, Record, first_case
from tests.parity.published import consecutive_part, spread_part, unclipped_centroids


def shapes(height: int, width: int) -> np.ndarray:
    """The drawing of the centroid fixture, raw Cityscapes ids."""
    label = np.full((height, width), 7, np.uint8)
    rows, cols = np.mgrid[0:height, 0:width]
    label[np.hypot(rows - 0.3 * height, cols - 0.35 * width) < 0.2 * height] = 26
    label[: height // 5] = 23
    label[height // 2 : height // 2 + 6, width // 3 : width // 3 + 40] = 24
    label[-9:] = 1
    label[5:9, width - 20 : width - 3] = 20
    label[height - 30 : height - 20, 10:12] = 33
    return label


def label_of(case: Record) -> np.ndarray:
    """The label (H, W) uint8 of a case, in train ids."""
    kind, _, numbers = str(case["source"]).rstrip(")").partition("(")
    size = [int(number) for number in numbers.split(",")]
    makers = {"shapes": shapes, "recipe.label": recipe.label}
    if kind not in makers:
        raise CannotRun(f"source: {case['source']!r} is not understood")
    label = makers[kind](*size).astype(np.uint8)
    return SPEC.lut()[label].astype(np.uint8) if case.get("id2trainid") else label


def check_centroids(fixture: Fixture) -> list[Row]:
    """Points of every class in order, and the make-up of whole epochs."""
    rows = []
    for number, case in enumerate(fixture.header.get("cases", [])):
        points = unclipped_centroids(label_of(case), case["num_classes"], case["tile"])
        got = [(k, *xy) for k, pairs in sorted(points.items()) for xy in pairs]
        recorded = sorted((int(k), pairs) for k, pairs in case["centroids"].items())
        want = [(k, *xy) for k, pairs in recorded for xy in pairs]
        rows.append(compare(f"{fixture.name}/{number}", got, want))
    for case in fixture.header.get("build_epoch", []):
        rows += epoch_rows(case)
    return rows


def epoch_rows(case: Record) -> list[Row]:
    """Length, order and repeats of one epoch."""
    points = {
        int(k): [(10**6 * int(k) + n, n, int(k)) for n in range(count)]
        for k, count in case["centroids_per_class"].items()
    }
    num_images, num_random = case["num_images"], case["random_items"]
    entries = epoch_list(num_images, points, case["pct"], case["num_classes"], seed=0, epoch=0)
    whole = [item for item, point in entries if point is None]
    classes = [point[1] for _, point in entries[num_random:] if point is not None]
    order = [int(k) for k, count in sorted_classes(case) for _ in range(count)]
    repeats = Counter((item, point) for item, point in entries if point is not None)
    most = Counter[int]()
    for (_, point), count in repeats.items():
        most[point[1]] = max(most[point[1]], count)
    name = f"epoch of {num_images}, {case['num_classes']} classes, pct {case['pct']}"
    repeat = max(Counter(whole).values(), default=0)
    wanted = {int(k): count for k, count in case["max_repeat_of_a_centroid"].items()}
    return [
        compare(f"{name}: length", len(entries), case["length"]),
        compare(f"{name}: whole images first", len(whole), num_random),
        compare(f"{name}: classes ascending", classes, order),
        compare(f"{name}: repeats of an image", repeat, case["max_repeat_of_an_image"]),
        compare(f"{name}: repeats of a point", sorted(most.items()), sorted(wanted.items())),
    ]


def sorted_classes(case: Record) -> list[tuple[int, int]]:
    """(class, draws) in ascending order of the class."""
    return sorted((int(k), count) for k, count in case["per_class"].items())


def check_sampler(fixture: Fixture) -> list[Row]:
    """Indices of every rank, with the official permutation."""
    rows = []
    for number, case in enumerate(fixture.cases):
        order = list(range(case["n"]))
        epoch = case["epoch"]
        if case["permutation"]:
            generator = torch.Generator().manual_seed(epoch)
            order = torch.randperm(case["n"], generator=generator).tolist()
        world, tail = case["replicas"], "pad" if case["pad"] else "drop"
        part = consecutive_part if case["consecutive_sample"] else spread_part
        got = [part(order, rank, world, tail=tail) for rank in range(world)]
        name = f"{fixture.name}/{number}"
        rows.append(compare(name, got, case["indices_per_rank"]))
    return rows


CHECKS = (
    Check(
        "hmsa centroids",
        lambda fixture: "build_epoch" in fixture.header or "centroids" in first_case(fixture),
        check_centroids,
        {
            "shapes": "describes a drawing",
            "cases.*.label": "what the case is called",
            "build_epoch.*.first_items_are": "in words",
            "cases.*.id2trainid": "null where the ids are train ids",
            "build_epoch.*.pct": "a setting",
        },
    ),
    Check(
        "hmsa rank splits",
        lambda fixture: "indices_per_rank" in first_case(fixture),
        check_sampler,
        {"cases.*.epoch": "a seed, of no effect without a permutation"},
    ),
)
