# SPDX-License-Identifier: Apache-2.0
"""image_scores.npz: every rank, every name, small for many classes, damage in one line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from datasets.custom import hues
from metrics.image_counts import ImageCounts, ImageEntries
from reports.image_scores import (
    FILE,
    ImageScores,
    ImageScoresSink,
    read_image_scores,
    write_image_scores,
)
from runtime.errors import UserError
from tests.reports.cases import SPEC, alone, make_result
from tests.reports.test_odd_names import ODD


def test_two_ranks_give_the_file_of_one(tmp_path: Path) -> None:
    results = [make_result(f"x{i}", i) for i in range(5)]
    results[2] = make_result("x2", 2, label=None, confusion=None)
    one, first, second = (ImageScoresSink(SPEC) for _ in range(3))
    for result in results:
        one.add(result)
        (first, second)[result.index % 2].add(result)
    one.close(0, 1, alone)
    first.close(0, 2, lambda own: [own, second._images])
    for name, sink in (("one", one), ("two", first)):
        sink.write(tmp_path / name / FILE, epoch=3, not_finite=0)
    assert (tmp_path / "one" / FILE).read_bytes() == (tmp_path / "two" / FILE).read_bytes()
    found = read_image_scores(tmp_path / "two" / FILE)
    assert found.counts.names == ("x0", "x1", "x3", "x4"), "without the image without a label"
    assert found.facts == {"epoch": 3, "not_finite": 0} and found.palette == SPEC.palette
    total = sum(result.confusion for result in results if result.confusion is not None)
    summed = np.zeros(16, np.int64)
    np.add.at(summed, found.counts.cells, found.counts.pixels)
    assert (summed.reshape(4, 4) == total).all()


def test_names_of_every_kind_come_back(tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, class_names=("caf\u00e9", "a\nb", "\"'<", "tram"))
    sink = ImageScoresSink(spec)
    for index, name in enumerate(ODD):
        sink.add(make_result(name, index))
    sink.close(0, 1, alone)
    sink.write(tmp_path / FILE)
    counts = read_image_scores(tmp_path / FILE).counts
    assert counts.names == tuple(ODD) and counts.class_names == spec.class_names


def test_an_evaluation_without_labels_leaves_no_file_of_an_earlier_one(tmp_path: Path) -> None:
    sink = ImageScoresSink(SPEC)
    sink.add(make_result("x"))
    sink.close(0, 1, alone)
    sink.write(tmp_path / FILE)
    ImageScoresSink(SPEC).write(tmp_path / FILE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("classes", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_classes_cost_two_kilobytes_an_image(tmp_path: Path, classes: int) -> None:
    """Images of 20 classes, each taken for six others here and there."""
    rng = np.random.default_rng(0)
    images = {}
    for index in range(30):
        matrix = np.zeros((classes, classes), np.int64)
        rows = rng.choice(classes, 20, replace=False)
        matrix[np.repeat(rows, 6), rng.integers(0, classes, 120)] = rng.integers(1, 9999, 120)
        matrix[rows, rows] = rng.integers(10_000, 99_999, 20)
        images[index] = ImageEntries.of(f"ADE_val_{index:08}", matrix)
    counts = ImageCounts.of([f"class {i}" for i in range(classes)], images)
    write_image_scores(tmp_path / FILE, ImageScores(counts=counts, palette=hues(classes), facts={}))
    assert (tmp_path / FILE).stat().st_size < 30 * 2048
    assert (read_image_scores(tmp_path / FILE).counts.cells == counts.cells).all()


@pytest.mark.parametrize(
    "damage", ["cut", "text", "other", "places", "starts", "names", "outside", "format", "list"]
)
def test_a_damaged_file_is_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / FILE
    sink = ImageScoresSink(SPEC)
    for index in range(3):
        sink.add(make_result(f"x{index}", index))
    sink.close(0, 1, alone)
    sink.write(path)
    with np.load(path) as file:
        arrays = dict(file)
    facts = arrays["facts"].tobytes()
    changed = {
        "other": {"scores": np.zeros(3)},
        "places": {**arrays, "cells": arrays["cells"] + 16},
        "starts": {**arrays, "starts": arrays["starts"][::-1]},
        "names": {**arrays, "facts": np.frombuffer(facts.replace(b"x1", b"x0"), np.uint8)},
        "outside": {**arrays, "facts": np.frombuffer(facts.replace(b"x1", b".."), np.uint8)},
        "list": {**arrays, "facts": np.frombuffer(b'"x"', np.uint8)},
        "format": {**arrays, "facts": np.frombuffer(facts.replace(b"res-1", b"res-9"), np.uint8)},
    }
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "text":
        path.write_text("not an archive")
    else:
        np.savez_compressed(path, **changed[damage])
    with pytest.raises(UserError, match=r"image_scores.npz is damaged, or of another version"):
        read_image_scores(path)
