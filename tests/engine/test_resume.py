# SPDX-License-Identifier: Apache-2.0
"""A killed training run goes on bit for bit; real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.program import ROOT, TINY, command, environment, run

pytestmark = pytest.mark.slow


def flags(root: Path, result_dir: Path) -> list[str]:
    return [
        *TINY,
        "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={root}",
        "--set", f"DATASET.CENTROID_ROOT={root}/centroids", "--class_uniform_tile", "64",
        "--crop_size", "64,64", "--bs_trn", "2", "--num_workers", "1", "--max_epoch", "3",
        "--rmi_loss", "--mscale_dropout", "--ema", "0.9", "--save_iters", "1",
        "--deterministic", "--resume", "auto", "--result_dir", str(result_dir),
    ]  # fmt: skip


def weights(directory: Path) -> dict[str, torch.Tensor]:
    path = next(directory.glob("last_checkpoint_ep*.pth"))
    content = torch.load(path, weights_only=True)
    assert content["progress"]["epoch"] == 3
    return {
        **content["state_dict"],
        **{"live." + k: v for k, v in content["live_state_dict"].items()},
    }


def assert_bit_equal(first: Path, second: Path) -> None:
    expected, got = weights(first), weights(second)
    assert expected.keys() == got.keys()
    different = [key for key in expected if not torch.equal(expected[key], got[key])]
    assert not different


@pytest.fixture(scope="module")
def uninterrupted(street_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a training nobody disturbed."""
    directory = tmp_path_factory.mktemp("uninterrupted")
    result = run("train.py", *flags(street_root, directory))
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads((directory / "status.json").read_text())["status"] == "done"
    return directory


def start_and_signal(
    root: Path, directory: Path, number: signal.Signals, ready: Callable[[], bool]
) -> int:
    process = subprocess.Popen(
        command("train.py", *flags(root, directory)),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, "the run ended before it could be disturbed"
    os.killpg(process.pid, number)  # as Ctrl-C and job schedulers do: workers get it too
    return process.wait(timeout=60)


def has_checkpoint(directory: Path, epoch: int) -> Callable[[], bool]:
    return lambda: (directory / f"last_checkpoint_ep{epoch}.pth").exists()


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_killed_run_resumes_to_the_same_bits(
    street_root: Path, uninterrupted: Path, tmp_path: Path, epoch: int
) -> None:
    code = start_and_signal(street_root, tmp_path, signal.SIGKILL, has_checkpoint(tmp_path, epoch))
    assert code == -signal.SIGKILL
    result = run("train.py", *flags(street_root, tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "resumed" in result.stdout
    assert_bit_equal(uninterrupted, tmp_path)


def test_sigterm_saves_first_and_resumes_to_the_same_bits(
    street_root: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    code = start_and_signal(street_root, tmp_path, signal.SIGTERM, has_checkpoint(tmp_path, 1))
    assert code == 130
    assert json.loads((tmp_path / "status.json").read_text())["status"] == "interrupted"
    result = run("train.py", *flags(street_root, tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
    assert_bit_equal(uninterrupted, tmp_path)


def test_resume_refuses_another_number_of_ranks(street_root: Path, uninterrupted: Path) -> None:
    result = run("train.py", *flags(street_root, uninterrupted), ranks=2)
    assert result.returncode != 0
    assert "been written by 1 process, this run has 2" in result.stdout
