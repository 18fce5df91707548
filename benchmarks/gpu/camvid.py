# SPDX-License-Identifier: Apache-2.0
"""CamVid from random weights for as many epochs as the time allows, and its score on test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.gpu.bench import Clock, Row, timed
from benchmarks.gpu.networks import Case, TrainingStep, Way

SECTION = "camvid"
ROOT = Path(__file__).resolve().parents[2]
IMAGES, BATCH, CROP = 367, 8, (352, 480)
NETWORK = ("--arch", "timm.SegFormer", "--trunk", "resnet18d", "--segattn_bot_ch", "128")
FLAGS = (
    "--dataset", "camvid", *NETWORK, "--crop_size", ",".join(map(str, CROP)),
    "--bs_trn", str(BATCH), "--class_uniform_pct", "0.5", "--class_uniform_tile", "120",
    "--class_weights", "auto", "--optimizer", "adamw", "--lr", "0.002", "--weight_decay", "0.05",
    "--lr_by", "iter", "--ema", "0.99", "--drop_path", "0.1", "--color_aug", "0.4",
)  # fmt: skip
WAY = Way("bf16", channels_last=True, compile=False)
SHARE = 0.6  # of the time for steps; the rest is for starting, validating and the test images
MOST_EPOCHS = 300


def measure(device: torch.device, clock: Clock, root: Path | None) -> Iterator[Row]:
    """One row: epochs and mIoU. `root`: of CamVid, else what paths.yml and the environment say."""
    case = Case(arch="timm.SegFormer", batch=BATCH, crop=CROP, training=NETWORK[2:])
    step = timed(TrainingStep(case, WAY, device), device, 1.0).seconds
    epochs = min(int(SHARE * clock.left / (step * (IMAGES // BATCH + 1))), MOST_EPOCHS)
    name = f"{' '.join(NETWORK[1:4:2])}, {epochs} epochs"
    if epochs < 1:
        yield Row(section=SECTION, name=name, problem="not run: the time was up")
        return
    with tempfile.TemporaryDirectory() as place:
        run, scores = Path(place) / "run", Path(place) / "test"
        common = ("--device", device.type, "--precision", WAY.precision, "--channels_last")
        training = (*FLAGS, *common, "--max_epoch", str(epochs), "--val_freq", str(epochs))
        problem = _program("train.py", *training, "--result_dir", str(run), root=root)
        if not problem:
            testing = ("--from_run", str(run), "--eval", "test", "--result_dir", str(scores))
            problem = _program("eval.py", *testing, root=root)
        if problem:
            yield Row(section=SECTION, name=name, problem=problem, is_wrong=True)
            return
        result = json.loads((scores / "results.json").read_text(encoding="utf-8"))
    values = {"test mIoU %": 100 * result["mean_iu"], "step ms": 1e3 * step}
    yield Row(section=SECTION, name=name, values=values)


def _program(name: str, *flags: str, root: Path | None) -> str:
    """Run a program; the last line of what it said if it failed."""
    environment = dict(os.environ)
    if root is not None:
        environment["HISEG_CAMVID_DIR"] = str(root)
    done = subprocess.run(
        [sys.executable, name, *flags], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
    return "" if done.returncode == 0 else f"{name}: {lines[-1] if lines else done.returncode}"
