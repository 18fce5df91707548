# SPDX-License-Identifier: Apache-2.0
"""Label noise from end to end: one command trains and predicts folds, and finds planted errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from skimage import measure

from datasets.annotations.drawing import filled
from datasets.ids import read_item_label
from datasets.synthetic import SPEC, ScenePlan, list_items, write_synthetic
from tests.program import ROOT, TINY, command, environment, street_flags
from tools.label_noise import folds
from tools.label_noise.program import main

SIZE = 64, 128
SCENES = ScenePlan(size=SIZE, train=160, val=4, test=1)
PLANTED, OBJECT = 0.05, 50  # share of the regions, and pixels that a region has at least
NETWORK = [
    "--arch", "timm.SegFormer", "--trunk", "test_resnet", "--crop_size", "64,128",
    "--scale_max", "1.25", "--color_aug", "0.1", "--bs_trn", "4", "--optimizer", "adamw",
    "--lr", "0.004", "--lr_by", "iter", "--max_epoch", "25", "--val_freq", "25",
    "--class_uniform_tile", "64", "--num_workers", "0", "--tracker", "none",
]  # fmt: skip

Error = tuple[str, str, npt.NDArray[np.bool_]]  # image, the wrong class, pixels


def plant(root: Path) -> list[Error]:
    """Give a share of all regions of the training labels another class."""
    rng = np.random.default_rng(0)
    items, regions = list_items(root, "train"), []
    for item in items:
        label = read_item_label(item, SPEC)
        parts = measure.label(np.where(label < SPEC.num_classes, label + 1, 0), connectivity=2)
        sizes = np.bincount(parts.ravel())
        regions += [(item, parts == number) for number in range(1, len(sizes))
                    if sizes[number] >= OBJECT]  # fmt: skip
    found = []
    for number in rng.choice(len(regions), round(PLANTED * len(regions)), replace=False):
        item, mask = regions[number]
        assert item.label is not None
        raw = np.array(Image.open(item.label))
        wrong = int(rng.choice(np.setdiff1d(SPEC.train_id_to_id, raw[mask][:1])))
        raw[mask] = wrong
        Image.fromarray(raw).save(item.label)
        name = SPEC.class_names[SPEC.train_id_to_id.index(wrong)]
        found.append((item.image.name, name, mask))
    return found


def is_found(error: Error, image: str, annotation: dict[str, Any]) -> bool:
    """Whether at least half of an annotated region lies in a planted one, and means its class."""
    name, wrong, mask = error
    if name != Path(image).name or wrong != annotation["attributes"]["labelled"]:
        return False
    rows, columns = slice(0, SIZE[0]), slice(0, SIZE[1])
    own = np.zeros(SIZE, bool)
    for line in annotation["segmentation"]:
        own |= filled(np.array(line).reshape(-1, 2), rows, columns)
    return bool((own & mask).sum() >= own.sum() / 2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_four_of_five_planted_errors_are_in_the_first_tenth_of_the_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "streets", tmp_path / "noise"
    write_synthetic(root, SCENES)
    errors = plant(root)
    line = command(
        "-m", "reports.label_noise", "--result_dir", str(out), "--folds", "2",
        "--eval_flags", "--num_workers 0", "--workers", "1", "--dataset", "synthetic",
        "--set", f"DATASET.SYNTHETIC_DIR={root}", *NETWORK,
        "--set", f"DATASET.CENTROID_ROOT={tmp_path}/centroids",
    )  # fmt: skip
    where, pipe = environment(), subprocess.PIPE
    with subprocess.Popen(line, cwd=ROOT, env=where, text=True, stdout=pipe) as begun:
        assert begun.stdout is not None
        shown = ""
        while "[epoch 2]" not in shown:
            shown = begun.stdout.readline()
            assert shown, "it ended"
        begun.send_signal(signal.SIGTERM)
        rest, _ = begun.communicate(timeout=300)
    assert begun.returncode == 130 and "train.py ended with exit code 130" in rest
    assert not (out / "label_noise.json").exists()
    done = subprocess.run(
        line, cwd=ROOT, env=where, text=True, capture_output=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "[epoch 0]" not in done.stdout.partition("fold 2 of 2")[0], "the first fold went on"
    content = json.loads((out / "label_noise.json").read_text())
    files = {image["id"]: image["file_name"] for image in content["images"]}
    assert len(files) == SCENES.train
    regions = content["annotations"]
    tenth = regions[: len(regions) // 10]
    found = [
        error for error in errors
        if any(is_found(error, files[region["image_id"]], region) for region in tenth)
    ]  # fmt: skip
    assert len(errors) > 100 and len(found) >= 0.8 * len(errors), (len(found), len(errors))
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.pth")}
    assert main(line[3:]) == 0  # again: nothing is trained anew
    assert "train.py" not in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.pth")} == stamps


def test_a_program_that_dies_of_our_signal_is_an_interruption() -> None:
    """It had not begun to listen to signals."""
    Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(KeyboardInterrupt):
        folds._run(["sleep", "30"])


def test_a_program_that_the_system_kills_says_so(
    tmp_path: Path, street_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "killed"
    program.write_text("#!/bin/sh\nkill -9 $$\n")
    program.chmod(0o755)
    flags = [*TINY, *street_flags(street_root, tmp_path / "out"), "--launcher", str(program)]
    assert main(flags) == 3
    assert "fold 1 of 3: train.py was killed by signal 9" in capsys.readouterr().out
