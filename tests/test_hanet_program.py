# SPDX-License-Identifier: Apache-2.0
"""HANet through the real programs: train, resume the optimiser, evaluate in every mode, submit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.program import run

NET = ["--arch", "network.deepv3.DeepMNASNet05V3PlusD_HANet", "--hanet_set", "3", "32", "3"]
BLOCKS = ["--hanet", "1", "1", "1", "1", "1", "--dropout", "0.1", "--pos_noise", "0.3"]


def camvid(root: Path, *more: str) -> list[str]:
    return [
        "--dataset", "camvid", "--set", f"DATASET.CAMVID_DIR={root}", "--num_workers", "0",
        "--set", f"DATASET.CENTROID_ROOT={root}/centroids", "--no_progress", *more,
    ]  # fmt: skip


def recipe(root: Path, folder: Path) -> list[str]:
    """A training as in HANet's scripts, of three steps."""
    return camvid(
        root, *NET, *BLOCKS, "--aux_loss", "--attention_loss", "0.1", "--hanet_lr", "0.02",
        "--hanet_poly_exp", "2", "--hanet_wd", "1e-4", "--backbone_lr", "0.001", "--lr", "0.01",
        "--lr_by", "iter", "--poly_exp", "0.9", "--max_iter", "3", "--bs_mult", "2",
        "--crop_size", "64", "--city_mode", "trainval", "--result_dir", str(folder),
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(camvid_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hanet") / "run"
    done = run("train.py", *recipe(camvid_root, folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("last_checkpoint_ep*.pth"))  # three steps may leave no finite score


@pytest.mark.slow
def test_training_has_three_groups_and_all_terms(trained: Path) -> None:
    groups = torch.load(trained, weights_only=True)["optimizer"]["param_groups"]
    assert [group["initial_lr"] for group in groups] == [0.01, 0.02, 0.001]
    assert [group["weight_decay"] for group in groups] == [1e-4, 1e-4, 1e-4]
    rates = [group["lr"] / group["initial_lr"] for group in groups]
    assert rates == pytest.approx([3**-0.9, 3**-2, 3**-0.9])
    log = (trained.parent / "logging.log").read_text()
    assert "aux " in log and "rows " in log and "parameter groups" in log
    assert "[lr 0.00372041, lr hanet 0.00222222, lr backbone 0.000372041]" in log
    assert log.count("class-uniform sampling, fine images: the labels (96x64) are smaller") == 1
    row = (trained.parent / "metrics.csv").read_text().split(",")
    shown = {name: float(row[row.index(name) + 1]) for name in ("lr", "lr_hanet", "lr_backbone")}
    assert list(shown.values()) == [group["lr"] for group in groups]


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode", [["sliding", "--crop_size", "48", "--scales", "0.5,1.0"], ["pooling", "--no_flip"]]
)
def test_evaluation_writes_bands_and_the_four_folders(
    camvid_root: Path, trained: Path, tmp_path: Path, mode: list[str]
) -> None:
    argv = ["--snapshot", str(trained), "-im", *mode, "--dump_images", "--split", "val"]
    done = run("eval.py", *camvid(camvid_root, *argv, "--result_dir", str(tmp_path)))
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["bands"]) == {"upper", "mid1", "mid2", "lower"}
    assert results["protocol"]["inference_mode"] == mode[0]
    for folder, end in (
        ("rgb", "_color"),
        ("pred", ""),
        ("compose", "_compose"),
        ("diff", "_diff"),
    ):
        with Image.open(tmp_path / folder / f"val0{end}.png") as picture:
            assert picture.size == (96, 64)


@pytest.mark.slow
def test_without_blocks_one_rate_covers_everything(camvid_root: Path, tmp_path: Path) -> None:
    argv = camvid(
        camvid_root, *NET, "--hanet", "0", "0", "0", "0", "0", "--hanet_lr", "0.02",
        "--hanet_poly_exp", "0.9", "--max_iter", "1", "--bs_mult", "2", "--crop_size", "64",
        "--result_dir", str(tmp_path / "run"),
    )  # fmt: skip
    done = run("train.py", *argv)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no HANet block, --lr is used for all parameters" in done.stdout
    assert "parameter groups" not in done.stdout
