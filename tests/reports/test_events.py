# SPDX-License-Identifier: Apache-2.0
"""Event files: what a run logged, over all its parts, also while one is being written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter

from reports.events import PATTERN, read_history


def write(directory: Path, part: int, values: dict[str, dict[int, float]]) -> None:
    with SummaryWriter(str(directory), filename_suffix=f".{part}") as writer:
        for name, points in values.items():
            for step, value in points.items():
                writer.add_scalar(name, value, step)
    for path in directory.glob(f"*.{part}"):  # names hold the second, in which both may be written
        path.rename(directory / f"events.out.tfevents.{part}.host")


def test_a_resumed_run_is_one_history_without_what_was_lost(tmp_path: Path) -> None:
    write(tmp_path, 1, {"train/loss": {1: 3, 2: 2, 3: 1}, "val/loss": {0: 5}})
    write(tmp_path, 2, {"train/loss": {2: 2.5, 4: 0.5}, "val/loss": {1: 4}})
    found = read_history(tmp_path)
    assert found.numbers == {"train/loss": {1: 3, 2: 2.5, 4: 0.5}, "val/loss": {0: 5, 1: 4}}
    assert (found.files, found.broken) == (2, [])


def test_pictures_are_those_of_the_last_step(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for step in (0, 3):
            writer.add_image("val/a", np.full((3, 4, 5), step / 3), step)
    step, png = read_history(tmp_path).pictures["val/a"]
    assert step == 3 and png.startswith(b"\x89PNG")


def test_half_a_record_at_the_end_costs_itself_alone(tmp_path: Path) -> None:
    write(tmp_path, 1, {"train/loss": {1: 3, 2: 2}})
    (path,) = tmp_path.glob(PATTERN)
    whole = path.read_bytes()
    for cut in (1, 8, 20):
        path.write_bytes(whole[:-cut])
        found = read_history(tmp_path)
        assert found.numbers["train/loss"] == {1: 3}
        assert found.broken == [path.name]
    path.write_bytes(b"no events at all, but longer than a header")
    assert read_history(tmp_path).broken == [path.name]


def test_a_folder_without_any_has_no_history(tmp_path: Path) -> None:
    assert read_history(tmp_path).files == 0
