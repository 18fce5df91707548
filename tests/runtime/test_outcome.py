# SPDX-License-Identifier: Apache-2.0
"""How a program ends: what is the user's affair, what is a fault of this program, and the line."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from torch.utils.data import Dataset, SequentialSampler

from config import UserError
from datasets.base import DataError
from datasets.loader import stop_workers, worker_loader
from runtime.checkpoint import SaveError, save
from runtime.errors import Diverged
from runtime.outcome import FAILED, INTERRUPTED, WRONG, Interrupted, Outcome, run
from runtime.precision import resolve_precision
from runtime.runlog import RunLog
from tests.program import ROOT


def encode() -> None:
    "\udce9".encode()


def own_check() -> None:
    import torch

    resolve_precision("tf32", torch.device("cpu"))


def foreign_check() -> None:
    json.loads("{")


def library_check() -> None:
    import numpy as np

    np.zeros(3).reshape(2, 2)


def too_large() -> None:
    import numpy as np

    np.zeros(1 << 62, np.uint8)


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


class Broken(Dataset[int]):
    """Raises in a loader process."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        if self.kind == "data":
            raise DataError("a.png: image cannot be read")
        if self.kind == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "plain":
            raise ValueError("b.png: of our own code")
        encode()
        return 0


def loaded(kind: str) -> Callable[[], None]:
    """Reads the one entry in a loader process."""

    def read() -> None:
        loader = worker_loader(Broken(kind), SequentialSampler([0]), 1, 1, list)
        try:
            list(loader)
        finally:
            stop_workers(loader)

    return read


def end(main: Callable[[], None], log: RunLog | None = None) -> int:
    def started(outcome: Outcome) -> int:
        outcome.log = log
        main()
        return 0

    return run(started)


@pytest.mark.parametrize(
    ("main", "code", "words"),
    [
        (raising(UserError("--lr 0: wrong")), WRONG, "error: --lr 0: wrong"),
        (raising(DataError("a.png: torn")), WRONG, "error: a.png: torn"),
        (raising(SaveError("x could not be written")), WRONG, "error: x could not be written"),
        (own_check, WRONG, "error: --precision tf32 needs CUDA"),
        (loaded("data"), WRONG, "error: a.png: image cannot be read"),
        (loaded("plain"), WRONG, "error: b.png: of our own code"),
        (raising(MemoryError()), WRONG, "error: not enough memory ("),
        (
            too_large,
            WRONG,
            "error: not enough memory (4.00 EiB more wanted, by tests/runtime/test_outcome.py, ",
        ),
        (encode, FAILED, "failed: UnicodeEncodeError: 'utf-8' codec"),
        (foreign_check, FAILED, "failed: JSONDecodeError: Expecting property name"),
        (library_check, FAILED, "failed: ValueError: cannot reshape"),
        (loaded("foreign"), FAILED, "failed: RuntimeError: 'utf-8' codec"),
        (raising(KeyError("x")), FAILED, "failed: KeyError: 'x'"),
        (raising(Interrupted("saved: epoch 3")), INTERRUPTED, "interrupted: saved: epoch 3"),
        (raising(KeyboardInterrupt()), INTERRUPTED, "interrupted: interrupted"),
    ],
)
def test_the_last_line_and_the_exit_code(
    main: Callable[[], None], code: int, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Only a fault of this program shows a traceback."""
    assert end(main) == code
    shown = capfd.readouterr()
    assert shown.out.splitlines()[-1].startswith(words)
    assert ("Traceback" in shown.err) == (code == FAILED)


def test_a_training_that_diverged_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert end(raising(Diverged("100 steps in a row; lower --lr"))) == FAILED
    shown = capfd.readouterr()
    assert shown.out.splitlines()[-1] == "failed: 100 steps in a row; lower --lr"
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line_with_the_file(
    number: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = RunLog(tmp_path, is_main=True, progress=False)
    assert end(raising(OSError(number, os.strerror(number), "/out/a.png")), log) == WRONG
    line = f"/out/a.png: {os.strerror(number)}; free some space"
    shown = capfd.readouterr()
    assert shown.out == f"error: {line}\n" and "Traceback" not in shown.err
    assert json.loads((tmp_path / "status.json").read_text())["reason"] == line


def test_a_loader_process_that_is_killed_is_named_with_the_reason(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = RunLog(tmp_path, is_main=True, progress=False)
    began = time.monotonic()
    assert end(loaded("dies"), log) == FAILED
    assert time.monotonic() - began < 30
    shown = capfd.readouterr()
    assert "Traceback" not in shown.err
    assert shown.out.startswith("failed: loader process ")
    status = json.loads((tmp_path / "status.json").read_text())
    for word in ("killed by signal: Killed", "out of memory?", "--num_workers"):
        assert word in status["reason"], status["reason"]
    assert "--resume" not in status["reason"]  # it goes on with a training, and this is none


def test_a_dead_loader_process_is_no_full_disk(tmp_path: Path) -> None:
    """Its end is noticed anywhere, in the middle of writing too."""
    death = RuntimeError("DataLoader worker (pid 7) is killed by signal: Alarm clock. ")
    with pytest.raises(RuntimeError, match="Alarm clock"):
        save(tmp_path / "x.pth", lambda file: raising(death)())
    assert list(tmp_path.iterdir()) == []


SLEEPER = """
import sys, time
from pathlib import Path
from runtime.outcome import run
from runtime.runlog import RunLog
def main(outcome):
    outcome.log = RunLog(Path(sys.argv[1]), True)
    outcome.log.status("running")
    print("here", flush=True)
    time.sleep(30)
    return 0
sys.exit(run(main))
"""


def test_sigterm_ends_what_is_no_training_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.terminate()
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == INTERRUPTED
    assert rest == "interrupted: stopped by SIGTERM\n"
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["status"], status["reason"]) == ("interrupted", "stopped by SIGTERM")
