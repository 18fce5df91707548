# SPDX-License-Identifier: Apache-2.0
"""Two gloo ranks train and evaluate like one process with twice the batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.program import TINY, run

pytestmark = pytest.mark.slow


def flags(root: Path, result_dir: Path, batch: int) -> list[str]:
    return [
        *TINY,
        "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={root}",
        "--class_uniform_pct", "0", "--crop_size", "64,64", "--bs_trn", str(batch),
        "--num_workers", "0", "--max_epoch", "1", "--lr", "1e-6", "--result_dir", str(result_dir),
    ]  # fmt: skip


def checkpoint(directory: Path) -> dict:
    return torch.load(next(directory.glob("last_checkpoint_ep*.pth")), weights_only=True)


def test_two_ranks_evaluate_every_image_once(street_root: Path, tmp_path: Path) -> None:
    one = run("train.py", *flags(street_root, tmp_path / "one", 2))
    assert one.returncode == 0, one.stdout + one.stderr
    snapshot = str(next((tmp_path / "one").glob("last_checkpoint_ep*.pth")))
    matrices = []
    for ranks in (1, 2):
        directory = tmp_path / f"eval{ranks}"
        result = run(
            "eval.py", "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={street_root}",
            "--snapshot", snapshot, "--num_workers", "0", "--dump_all_images",
            "--result_dir", str(directory), ranks=ranks,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        matrices.append(json.loads((directory / "results.json").read_text())["confusion"])
        dumped = sorted(path.name for path in (directory / "best_images").rglob("*_input.png"))
        assert (
            len(dumped)
            == len(set(dumped))
            == len(list(street_root.rglob("val/*/*_leftImg8bit.png")))
        )
    assert matrices[0] == matrices[1]


def write_custom_set(root: Path) -> Path:
    """Eight images whose labels have no void pixel, so that every rank's mean counts as many."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for index in range(8):
            mask = np.kron(rng.integers(0, 3, (4, 4)), np.ones((16, 16))).astype(np.uint8)
            image = (mask[..., None] * 80 + rng.integers(0, 40, (64, 64, 3))).astype(np.uint8)
            Image.fromarray(image).save(root / "images" / split / f"{index}.png")
            Image.fromarray(mask).save(root / "masks" / split / f"{index}.png")
    description = {
        "names": ["dark", "grey", "light"],
        "splits": {
            split: {"images": f"images/{split}", "labels": f"masks/{split}"}
            for split in ("train", "val")
        },
    }
    path = root / "blocks.yml"
    path.write_text(yaml.safe_dump(description))
    return path


def test_two_ranks_train_like_one_with_twice_the_batch(tmp_path: Path) -> None:
    """Batch norm and dropout aside: they see the images of their own rank by design."""
    description = write_custom_set(tmp_path / "set")
    states = []
    for ranks in (1, 2):
        directory = tmp_path / f"train{ranks}"
        result = run(
            "tests/engine/frozen_norm_train.py", *TINY,
            "--dataset", "custom", "--set", f"DATASET.CUSTOM_YAML={description}",
            "--class_uniform_pct", "0", "--crop_size", "64,64", "--bs_trn", str(4 // ranks),
            "--num_workers", "0", "--max_epoch", "2", "--lr", "0.01", "--scale_min", "1.0",
            "--supervised_mscale_loss_wt", "0.05", "--result_dir", str(directory), ranks=ranks,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        states.append(checkpoint(directory)["state_dict"])
    for key, one in states[0].items():
        torch.testing.assert_close(states[1][key], one, rtol=1e-4, atol=1e-6, msg=key)


def test_two_ranks_train_without_the_auxiliary_loss(street_root: Path, tmp_path: Path) -> None:
    """The head stays in the checkpoint; gradients of depthwise convolutions fit their buckets."""
    directory = tmp_path / "run"
    result = run(
        "train.py", "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={street_root}",
        "--arch", "hrvit.b1_UPerNet", "--aux_weight", "0", "--class_uniform_pct", "0",
        "--crop_size", "64,64", "--bs_trn", "2", "--num_workers", "0", "--max_epoch", "1",
        "--result_dir", str(directory), ranks=2,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Grad strides" not in result.stderr
    assert any(name.startswith("auxiliary_head.") for name in checkpoint(directory)["state_dict"])
