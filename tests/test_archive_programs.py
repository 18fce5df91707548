# SPDX-License-Identifier: Apache-2.0
"""The programs on a set as it is downloaded: the same numbers and files as from its folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.synthetic import ScenePlan, write_synthetic
from tests.archives import write_zip
from tests.program import TINY, assert_one_line_error, run

OUTER = {
    "leftImg8bit_trainvaltest": "leftImg8bit", "gtFine_trainvaltest": "gtFine",
    "leftImg8bit_trainextra": "leftImg8bit", "gtCoarse": "gtCoarse",
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folders")
    write_synthetic(root, ScenePlan(size=(64, 96), train=6, val=2, test=1, coarse=3))
    return root


@pytest.fixture(scope="module")
def zips(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("zips")
    for outer, name in OUTER.items():
        write_zip(root / f"{outer}.zip", {name: folders / outer / name})
    return root


def train_flags(root: Path, directory: Path, *more: str) -> list[str]:
    return [
        *TINY, "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={root}",
        "--set", f"DATASET.CENTROID_ROOT={directory}/centroids", "--class_uniform_tile", "32",
        "--class_uniform_pct", "0.5", "--coarse_boost_classes", "0,1,2", "--crop_size", "64,64",
        "--num_workers", "1", "--max_epoch", "1", "--result_dir", str(directory), *more,
    ]  # fmt: skip


@pytest.mark.slow
def test_training_on_the_zips_gives_the_weights_of_the_folders(
    folders: Path, zips: Path, tmp_path: Path
) -> None:
    copies = ["--cache_dir", str(tmp_path / "copies"), "--cache_gb", "0.01"]
    weights, scores = [], []
    for root, more in ((folders, []), (zips, copies)):
        directory = tmp_path / root.name
        result = run("train.py", *train_flags(root, directory, *more))
        assert result.returncode == 0, result.stdout + result.stderr
        file = next(directory.glob("last_checkpoint_ep*.pth"))
        weights.append(torch.load(file, weights_only=False)["state_dict"])
        scores.append(json.loads((directory / "status.json").read_text())["best"])
    assert scores[0] == scores[1]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert list((tmp_path / "copies").glob("??/*"))
    extra = tmp_path / "labels"
    for root in (folders, zips):
        result = run(
            "eval.py", "--eval", "train_extra", "--dataset", "synthetic",
            "--set", f"DATASET.SYNTHETIC_DIR={root}", "--dump_for_auto_labelling",
            "--snapshot", str(next((tmp_path / root.name).glob("best_checkpoint_ep*.pth"))),
            "--num_workers", "1", "--result_dir", str(extra / root.name),
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
    pictures = sorted((extra / folders.name / "train_extra").rglob("*.png"))
    assert len(pictures) == 6
    for path in pictures:
        other = extra / zips.name / path.relative_to(extra / folders.name)
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(other)))


@pytest.mark.slow
def test_a_truncated_zip_ends_a_training_before_it_starts(zips: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(zips, tmp_path / "zips"))
    archive = root / "gtFine_trainvaltest.zip"
    archive.write_bytes(archive.read_bytes()[:-200])
    result = run("train.py", *train_flags(root, tmp_path / "run"))
    assert_one_line_error(result, str(archive), "damaged or truncated zip", "download it again")


def test_room_without_a_folder_of_copies_is_refused(tmp_path: Path) -> None:
    result = run("train.py", *train_flags(tmp_path, tmp_path, "--cache_gb", "5"))
    assert_one_line_error(result, "--cache_gb has no effect without --cache_dir DIR")
