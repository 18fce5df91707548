# SPDX-License-Identifier: Apache-2.0
"""--patience and --class_weights auto from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from reports.events import read_history
from reports.run import main
from tests.program import TINY, run, street_flags

pytestmark = pytest.mark.slow


def test_a_training_that_learns_nothing_ends_early_and_says_so(
    street_root: Path, tmp_path: Path
) -> None:
    done = run(
        "train.py", *TINY, *street_flags(street_root, tmp_path), "--class_uniform_pct", "0",
        "--crop_size", "64,96", "--bs_trn", "2", "--max_epoch", "40", "--lr", "1e-9",
        "--patience", "1", "--class_weights", "auto",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^class weights: road [\d.]+, sidewalk [\d.]+,", done.stdout, re.MULTILINE)
    assert "--patience 1: 1 validation in a row without a better mIoU" in done.stdout
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["status"] == "done" and "--patience 1" in status["reason"]
    assert status["epoch"] < 40
    logged = read_history(tmp_path).numbers
    assert {"iou/road", "train/images_per_s", "train/memory_gib", "train/skipped"} <= set(logged)
    assert len(logged["iou/road"]) == status["epoch"] == len(logged["val/mean_iu"])
    assert main([str(tmp_path)]) == 0 and "Classes, IoU %" in (tmp_path / "run.html").read_text()
    again = run(
        "train.py", *TINY, *street_flags(street_root, tmp_path), "--class_uniform_pct", "0",
        "--crop_size", "64,96", "--bs_trn", "2", "--max_epoch", "40", "--lr", "1e-9",
        "--patience", "1", "--class_weights", "auto", "--resume", "auto",
    )  # fmt: skip
    assert again.returncode == 0, again.stdout + again.stderr
    assert "[epoch" not in again.stdout, "there is nothing left to train"
