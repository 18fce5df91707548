# SPDX-License-Identifier: Apache-2.0
"""A training that other numbers of processes go on with; real processes, real kills."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.synthetic import ScenePlan, write_synthetic
from tests.kills import kill_session, rank_processes
from tests.program import ROOT, command, environment, free_port, run

pytestmark = pytest.mark.slow


def flags(root: Path, directory: Path) -> list[str]:
    """Three steps an epoch for four ranks; batch norm, dropped paths and channels, momentum.

    Rounding does not grow in this network, which begins with layer norms, as it does in a
    random HRNet: there, four ranks that go on as four are as far off after ten steps.
    """
    return [
        "train.py", "--arch", "segformer.B0", "--dataset", "synthetic",
        "--set", f"DATASET.SYNTHETIC_DIR={root}", "--class_uniform_pct", "0.5",
        "--set", f"DATASET.CENTROID_ROOT={root}/centroids", "--class_uniform_tile", "64",
        "--crop_size", "64,64", "--bs_trn", "2", "--lr", "0.01", "--max_epoch", "5",
        "--val_freq", "5", "--num_workers", "0", "--save_iters", "2", "--no_progress",
        "--resume", "auto", "--result_dir", str(directory),
    ]  # fmt: skip


def content(directory: Path) -> dict[str, Any]:
    """The newest checkpoint."""
    path = max(directory.glob("last_checkpoint_ep*.pth"), key=lambda each: each.stat().st_mtime_ns)
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


def train_until(line: list[str], directory: Path, ranks: int, iteration: int) -> int:
    """Train until the checkpoint of step `iteration`, then kill all processes; the step reached."""
    process = subprocess.Popen(
        command(*line, ranks=ranks), cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    await_step(process, directory, iteration)
    kill(process)
    return int(content(directory)["progress"]["iteration"])


def await_step(process: subprocess.Popen[Any], directory: Path, iteration: int) -> None:
    """Wait for the checkpoint of step `iteration`, or a later one."""
    reached, deadline = -1, time.monotonic() + 200
    while reached < iteration:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
        with contextlib.suppress(ValueError, FileNotFoundError):
            reached = content(directory)["progress"]["iteration"]


def await_listener(port: str) -> None:
    """Wait until a program of this machine accepts connections to `port`."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port))):
            return
        time.sleep(0.1)
    raise AssertionError(f"nobody listens to port {port}")


def kill(process: subprocess.Popen[Any]) -> None:
    """SIGKILL to a program, or to a launcher and its ranks."""
    pids = rank_processes(process.pid)
    os.killpg(process.pid, signal.SIGKILL)
    for pid in pids:
        kill_session(pid)
    process.wait()


def assert_close(directory: Path, wanted: Path, start: dict[str, Any]) -> None:
    """Weights and statistics differ by float noise, compared with the change since `start`."""
    got, expected = content(directory), content(wanted)
    assert got["progress"]["iteration"] == expected["progress"]["iteration"]
    assert got["state_dict"].keys() == expected["state_dict"].keys()
    for key, value in expected["state_dict"].items():
        noise = (got["state_dict"][key] - value).double().norm()
        change = (value - start["state_dict"][key]).double().norm()
        assert noise <= 1e-3 * change + 1e-6, (key, float(noise), float(change))
    for own, other in zip(got["random"], expected["random"], strict=True):
        assert torch.equal(own["torch"], other["torch"])


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty images, so that the last step of an epoch repeats some."""
    root = tmp_path_factory.mktemp("streets")
    write_synthetic(root, ScenePlan(size=(64, 128), train=20, val=2, test=2, seed=0))
    return root


@pytest.fixture(scope="module")
def whole(streets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of four ranks that nobody disturbed."""
    directory = tmp_path_factory.mktemp("whole")
    result = run(*flags(streets, directory), ranks=4)
    assert result.returncode == 0, result.stdout + result.stderr
    return directory


def test_four_ranks_are_killed_two_go_on_and_one_finishes(
    streets: Path, whole: Path, tmp_path: Path
) -> None:
    line = flags(streets, tmp_path)
    first = train_until(line, tmp_path, 4, 2)
    start = content(tmp_path)
    second = train_until(line, tmp_path, 2, first + 3)
    result = run(*line)
    assert result.returncode == 0, result.stdout + result.stderr
    said = "1 process goes on with a run of 4: each adds up 4 batches a step instead of 1"
    assert result.stdout.count(said) == 1
    assert "so a step keeps its 8 images" in result.stdout
    last = content(tmp_path)
    assert 2 <= first < second < last["progress"]["iteration"]
    assert last["world_size"] == len(last["random"]) == 4
    assert_close(tmp_path, whole, start)


def test_torchrun_goes_on_with_the_node_that_is_left(
    streets: Path, whole: Path, tmp_path: Path
) -> None:
    """Two launchers stand for two nodes of two processes; one of them disappears."""
    port = free_port()
    launch = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes=1:2", "--nproc_per_node=2",
        "--max-restarts=3", "--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{port}",
        "--rdzv_conf=last_call_timeout=20", "--local-addr=127.0.0.1",
    ]  # fmt: skip
    directory = tmp_path / "run"
    nodes: list[subprocess.Popen[str]] = []
    try:
        for number in range(2):
            with (tmp_path / f"node{number}.log").open("w") as log:
                line = [*launch, *flags(streets, directory)]
                nodes.append(subprocess.Popen(line, cwd=ROOT, env=environment(), stdout=log,
                                              stderr=log, start_new_session=True))  # fmt: skip
            await_listener(port)  # the first node holds what both know of each other, and stays
        await_step(nodes[0], directory, 2)
        start = content(directory)
        kill(nodes[1])
        nodes[0].wait(timeout=200)
    finally:
        for node in nodes:
            if node.poll() is None:
                kill(node)
    log = (tmp_path / "node0.log").read_text()
    assert nodes[0].returncode == 0, log
    assert "2 processes go on with a run of 4: each adds up 2 batches a step" in log
    assert_close(directory, whole, start)
