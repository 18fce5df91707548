# SPDX-License-Identifier: Apache-2.0
"""A run leaves alone what another one wrote, and removes what a dead one left half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from config import UserError
from runtime import rundir
from runtime.distributed import World
from runtime.files import write_atomic

ALONE = World(rank=0, size=1, local_rank=0, device=torch.device("cpu"))
ROW = "val,loss,0.5,mean_iu,0.2,epoch,0,timestamp,1.0\n"


def write_facts(directory: Path, evaluation: str | None) -> None:
    (directory / "run.json").write_text(json.dumps({"flags": {"eval": evaluation}}))


def leave_training(directory: Path) -> None:
    (directory / "last_checkpoint_ep3.pth").write_bytes(b"x")
    (directory / "best_checkpoint_ep1.pth").write_bytes(b"x")
    (directory / "metrics.csv").write_text("start,start/step,0,timestamp,1.0\n" + ROW)
    write_facts(directory, None)


def leave_evaluation(directory: Path) -> None:
    (directory / "results.json").write_text("{}")
    (directory / "metrics.csv").write_text(ROW)
    write_facts(directory, "val")


@pytest.mark.parametrize(
    ("resume", "words"),
    [
        (None, ["last_checkpoint_ep3.pth", "--resume auto", "another --result_dir"]),
        ("", ["last_checkpoint_ep3.pth", "--resume auto", "another --result_dir"]),
        ("/elsewhere/last_checkpoint_ep9.pth", ["is not a file of it", "--resume auto"]),
    ],
)
def test_a_training_is_not_written_over(
    tmp_path: Path, resume: str | None, words: list[str]
) -> None:
    leave_training(tmp_path)
    with pytest.raises(UserError) as caught:
        rundir.check_training(tmp_path, resume)
    assert all(word in str(caught.value) for word in [*words, str(tmp_path)])
    assert "\n" not in str(caught.value)


def test_a_training_goes_on_in_its_own_directory(tmp_path: Path) -> None:
    leave_training(tmp_path)
    rundir.check_training(tmp_path, "auto")
    rundir.check_training(tmp_path, str(tmp_path / "best_checkpoint_ep1.pth"))
    rundir.check_training(tmp_path, str(tmp_path / "kept" / "last_checkpoint_ep2.pth"))


@pytest.mark.parametrize("left", ["best checkpoint", "rows", "evaluation"])
def test_auto_does_not_start_anew_over_what_it_cannot_go_on_from(tmp_path: Path, left: str) -> None:
    if left == "best checkpoint":
        (tmp_path / "best_checkpoint_ep1.pth").write_bytes(b"x")
    elif left == "rows":
        (tmp_path / "metrics.csv").write_text(ROW)
    else:
        leave_evaluation(tmp_path)
    for resume in ("auto", None):
        with pytest.raises(UserError, match="another --result_dir starts a new one"):
            rundir.check_training(tmp_path, resume)


@pytest.mark.parametrize("resume", [None, "auto", "/elsewhere/last_checkpoint_ep9.pth"])
def test_a_run_that_ended_before_it_had_anything_may_start_again(
    tmp_path: Path, resume: str | None
) -> None:
    rundir.check_training(tmp_path / "absent", resume)
    write_facts(tmp_path, None)
    (tmp_path / "metrics.csv").write_text("start,start/step,0,timestamp,1.0\n")
    (tmp_path / "logging.log").write_text("error: a label is missing\n")
    rundir.check_training(tmp_path, resume)


@pytest.mark.parametrize("other", ["eval", "summary", "augmented"])
def test_what_is_no_training_has_its_own_folder_beside_one(tmp_path: Path, other: str) -> None:
    assert rundir.choose(tmp_path, other, None, ALONE) == (tmp_path, "")
    leave_training(tmp_path)
    place, line = rundir.choose(tmp_path, other, None, ALONE)
    assert place == tmp_path / other
    assert "holds a training" in line and str(place) in line


def test_evaluations_follow_each_other_in_one_directory(tmp_path: Path) -> None:
    leave_evaluation(tmp_path)
    assert rundir.choose(tmp_path, "eval", None, ALONE) == (tmp_path, "")


@pytest.mark.parametrize("content", ["[]", "null", '{"flags": 3}', "{", "[" * 100_000])
def test_a_damaged_run_json_is_taken_for_that_of_a_training(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    assert rundir.holds_training(tmp_path)


@pytest.fixture
def dead() -> int:
    """The id of a process that is gone."""
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)


def test_half_written_files_of_dead_processes_are_removed(tmp_path: Path, dead: int) -> None:
    inner, other, code = tmp_path / "best_images" / "a", tmp_path / "run2", tmp_path / "code"
    for folder in (inner, other, code):
        folder.mkdir(parents=True)
    (other / "run.json").write_text("{}")
    own = os.getpid()
    gone = [
        tmp_path / f".last_checkpoint_ep1.pth.{dead}.partial",
        tmp_path / f".best_checkpoint_ep1.pth.{dead}.tmp",
        tmp_path / f".probe{dead}",
        tmp_path / f".x.{own}.partial",  # ids repeat in containers; this process wrote nothing yet
        inner / f".x_input.png.{dead}.partial",
    ]
    stays = [
        tmp_path / f".last_checkpoint_ep1.pth.{os.getppid()}.partial",
        tmp_path / ".autolabel-0.jsonl",
        tmp_path / f"x.{dead}.partial",
        other / f".x.{dead}.partial",
        code / f".x.{dead}.partial",
    ]
    for path in [*gone, *stays]:
        path.write_bytes(b"half")
    assert rundir.sweep(tmp_path, below=False) == 4
    assert rundir.sweep(tmp_path, below=True) == 1
    assert [path for path in gone if path.exists()] == []
    assert all(path.exists() for path in stays)


def test_what_a_killed_writer_leaves_is_known_to_the_sweep(tmp_path: Path) -> None:
    code = (
        "import os, pathlib\n"
        "from runtime.files import write_atomic\n"
        f"path = pathlib.Path({str(tmp_path)!r}) / ('x' * 200 + '.png')\n"
        "def half(file):\n"
        "    file.write(b'half')\n"
        "    file.flush()\n"
        "    os.kill(os.getpid(), 9)\n"
        "write_atomic(path, half)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=rundir.__file__.rpartition("/runtime")[0])
    assert len(list(tmp_path.iterdir())) == 1
    assert rundir.sweep(tmp_path, below=False) == 1
    assert list(tmp_path.iterdir()) == []
    write_atomic(tmp_path / "x", b"whole")
    assert rundir.sweep(tmp_path, below=False) == 0
