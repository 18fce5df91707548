# SPDX-License-Identifier: Apache-2.0
"""The five lines of the README about your own data do what they say, on a tiny set."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.program import ROOT, TINY, environment

pytestmark = pytest.mark.slow

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = TEXT.split("## Your own data in five lines", 1)[1].split("\n## ", 1)[0]
SMALL = [
    *TINY, "--crop_size", "64,64", "--bs_trn", "2", "--max_epoch", "1", "--num_workers", "0",
]  # fmt: skip


def write_harbour(root: Path) -> None:
    """The described file and images of three classes with 255 at their upper border."""
    description = re.search(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
    assert description is not None
    root.mkdir()
    (root / "harbour.yml").write_text(description[1], encoding="utf-8")
    label = np.zeros((64, 96), np.uint8)
    label[:3], label[20:], label[30:50, 20:60] = 255, 1, 2
    noise = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            image = label[..., None] * 80 + noise.integers(0, 20, (64, 96, 3))
            Image.fromarray(image.astype(np.uint8)).save(root / split / f"images/{number}.png")
            Image.fromarray(label).save(root / split / f"masks/{number}.png")


def test_two_lines_describe_a_set_and_three_check_train_and_predict_it(tmp_path: Path) -> None:
    data, run = tmp_path / "harbour", tmp_path / "run"
    write_harbour(data)
    block = re.search(r"(?:^ {4}\S.*\n)+", SECTION, re.MULTILINE)
    assert block is not None
    places = {
        "/data/harbour.yml": str(data / "harbour.yml"),
        "/data/new": str(data / "val" / "images"),
        "logs/harbour": str(run),
    }
    commands = block[0]
    for place, here in places.items():
        assert place in commands
        commands = commands.replace(place, here)
    lines = [shlex.split(line) for line in commands.strip().splitlines()]
    assert [line[0] for line in lines] == ["python"] * 3
    assert [line[1] for line in lines] == ["-m", "train.py", "eval.py"]
    for line, more in zip(lines, ([], SMALL, ["--num_workers", "0"]), strict=True):
        done = subprocess.run(
            [sys.executable, *line[1:], *more],
            cwd=ROOT, env=environment(HISEG_CENTROID_ROOT=str(tmp_path / "centroids")),
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted(path.name for path in (run / "eval" / "best_images").rglob("*prediction.png"))
    assert pages == ["0_prediction.png", "1_prediction.png"]
