# SPDX-License-Identifier: Apache-2.0
"""Boundary supervision from the command line: train, resume, evaluate with refined boundaries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.program import TINY, assert_one_line_error, run, street_flags

pytestmark = pytest.mark.slow


def flags(root: Path, directory: Path, *more: str) -> list[str]:
    return [
        *TINY, *street_flags(root, directory), "--class_uniform_pct", "0",
        "--crop_size", "64,64", "--bs_trn", "2", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(street_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of three steps with boundary supervision, on moved images."""
    directory = tmp_path_factory.mktemp("boundary")
    moving = ("--rrotate", "10", "--rand_augment", "2,10")
    result = run(
        "train.py", *flags(street_root, directory, "--dt_offset_wt", "1", "--max_iter", "3"),
        *moving,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return directory


def test_an_evaluation_refines_boundaries_on_request(
    trained: Path, street_root: Path, tmp_path: Path
) -> None:
    content = torch.load(next(trained.glob("best_checkpoint_ep*.pth")), weights_only=True)
    mask = content["state_dict"]["net.boundary.mask.3.weight"]
    mask[0], mask[1] = -1, 1  # what comes in is above 0: every pixel is a boundary
    snapshot = tmp_path / "sure.pth"
    torch.save(content, snapshot)
    losses = []
    for number, more in enumerate(([], ["--refine_boundaries"])):
        result = run(
            "eval.py", "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={street_root}",
            "--snapshot", str(snapshot), "--num_workers", "0", "--do_flip", *more,
            "--result_dir", str(tmp_path / str(number)),
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        found = json.loads((tmp_path / str(number) / "results.json").read_text())
        assert found["protocol"]["refine_boundaries"] == bool(more)
        losses.append(found["metrics"]["loss"])
    assert losses[0] != losses[1]


def test_what_lacks_the_heads_is_told_how_to_go_on(
    trained: Path, street_root: Path, tmp_path: Path
) -> None:
    last = str(next(trained.glob("last_checkpoint_ep*.pth")))
    result = run("train.py", *flags(street_root, tmp_path, "--resume", last, "--max_iter", "4"))
    line = assert_one_line_error(result, "boundary_heads True (this run False)", "--dt_offset_wt")
    assert len(line) < 200
    plain = tmp_path / "plain"
    result = run("train.py", *flags(street_root, plain, "--max_iter", "1"))
    assert result.returncode == 0, result.stdout + result.stderr
    snapshot = str(next(plain.glob("last_checkpoint_ep*.pth")))
    with_heads = flags(street_root, tmp_path / "on", "--snapshot", snapshot, "--max_iter", "1")
    result = run("train.py", *with_heads, "--dt_offset_wt", "1")
    assert_one_line_error(result, "add --allow_partial boundary")
    result = run("train.py", *with_heads, "--dt_offset_wt", "1", "--allow_partial", "boundary")
    assert result.returncode == 0, result.stdout + result.stderr
    result = run(
        "eval.py", "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={street_root}",
        "--snapshot", snapshot, "--refine_boundaries", "--result_dir", str(tmp_path / "e"),
    )  # fmt: skip
    assert_one_line_error(result, "--refine_boundaries", "trained without --dt_offset_wt")
