# SPDX-License-Identifier: Apache-2.0
"""Figures of a preflight: the largest images, the length of a run, the disk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from assembly.preflight import disk_text
from assembly.trials import evaluation_trial, image_work, of_largest
from datasets.samplers import Draw, EvalSampler
from datasets.spec import Item
from datasets.synthetic import SPEC
from runtime import checkpoint
from tests.settings.test_classification import resolved

MIB = 1 << 20


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """Images of several sizes, the fourth has the most pixels and the second is the tallest."""
    sizes = [(40, 60), (90, 10), (50, 40), (60, 70), (50, 80)]
    for number, size in enumerate(sizes):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / f"{number}.png")
    return [
        Item(name=str(number), image=tmp_path / f"{number}.png", label=None)
        for number in range(len(sizes))
    ]


def batches(count: int, size: int, rank: int = 0, world: int = 1) -> DataLoader:
    sampler = EvalSampler(count, rank, world)
    return DataLoader(range(count), size, sampler=sampler, collate_fn=lambda items: items)  # type: ignore[arg-type]


def test_the_largest_image_is_the_one_of_the_most_pixels(items: list[Item]) -> None:
    work, sizes = image_work(resolved("--dataset", "synthetic"), SPEC, items)
    assert work == [2 * height * width for height, width in sizes]
    trial = evaluation_trial(batches(5, 1), lambda batch: None, work, sizes, int)
    assert trial.title == "1 image of 70x60"
    assert trial.times == pytest.approx(sum(work) / work[3])
    draws = of_largest([Draw(0, (1, 1), (0, 0, 7))], items, 2)
    assert draws == [Draw(3, None, (0, 0, 7))]


def test_sizes_count_after_the_transforms_of_an_evaluation(items: list[Item]) -> None:
    """Fitted into a box, the squarest image makes the largest input."""
    settings = resolved("--dataset", "synthetic", "--pre_size", "80")
    work, _ = image_work(settings, SPEC, items)
    assert work.index(max(work)) == 3
    assert work[1] < work[2], "the tallest image is a narrow one"


def test_every_rank_takes_the_largest_of_its_own(items: list[Item]) -> None:
    work, sizes = image_work(resolved("--dataset", "synthetic"), SPEC, items)
    titles = [
        evaluation_trial(batches(5, 2, rank, 2), lambda batch: None, work, sizes, int).title
        for rank in range(2)
    ]
    assert titles == ["1 image of 80x50", "2 images of 10x90"] or titles == [
        "2 images of 60x40",
        "2 images of 10x90",
    ]
    none = evaluation_trial(batches(1, 1, 1, 2), lambda batch: None, work, sizes, int)
    assert none.load() is None and none.times == 0


def test_checkpoints_that_find_no_room_are_one_line(tmp_path: Path) -> None:
    line, problem = disk_text(tmp_path, 100 * MIB, 5 * MIB, free=400 * MIB, held=0)
    assert "checkpoints of 100.0 MiB, up to 3 at a time, previews 5.0 MiB" in line and not problem
    line, problem = disk_text(tmp_path, 100 * MIB, 0, free=250 * MIB, held=0)
    assert not line and "take 300.0 MiB more, 250.0 MiB are free" in problem
    assert "\n" not in problem and str(tmp_path) in problem
    line, problem = disk_text(tmp_path, 100 * MIB, 0, free=150 * MIB, held=200 * MIB)
    assert line and not problem, "those of the interrupted run are there already"
    line, problem = disk_text(tmp_path, 100 * MIB, 200 * MIB, free=400 * MIB, held=0)
    assert "too little for the previews" in line and not problem


def test_two_names_of_one_checkpoint_take_the_room_of_one(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "best_checkpoint_ep3.pth")
    size = (tmp_path / "best_checkpoint_ep3.pth").stat().st_size
    os.link(tmp_path / "best_checkpoint_ep3.pth", tmp_path / "last_checkpoint_ep3.pth")
    assert checkpoint.bytes_held(tmp_path) == size
    torch.save({"a": torch.zeros(1000)}, tmp_path / "last_checkpoint_ep4.pth")
    assert checkpoint.bytes_held(tmp_path) == 2 * size
