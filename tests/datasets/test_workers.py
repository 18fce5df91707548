# SPDX-License-Identifier: Apache-2.0
"""Loader processes end with the reason when they lack what they need; slow ones are waited for."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import Dataset

from config import UserError
from datasets import workers
from datasets.base import DataError
from datasets.loader import make_loader, stop_workers
from datasets.samplers import EvalSampler
from datasets.spec import Item
from datasets.workers import check_handles, check_room
from runtime.outcome import one_line
from runtime.threads import usable_cpus
from settings.workers import check_workers
from tests.program import ROOT, environment
from transforms.sample import Sample

GIB = 1 << 30


class Squares(Dataset[Sample]):
    """Images of the given sides; `seconds` each takes, `killed` dies on the way."""

    def __init__(self, sides: list[int], seconds: float = 0.0, killed: int | None = None) -> None:
        self.items = [
            Item(name=f"n{number}", image=Path(), label=None) for number in range(len(sides))
        ]
        self.sides, self.seconds, self.killed = sides, seconds, killed

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        if index == self.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        picture = np.full((self.sides[index], self.sides[index], 3), index, np.uint8)
        return Sample(image=picture, label=None, name=f"n{index}")


def batches(sides: list[int], count: int, *, report: bool = False, **options: object) -> list[str]:
    """One word a batch: its names, or why there are none; `count` workers."""
    dataset = Squares(sides, **options)  # type: ignore[arg-type]
    sampler = EvalSampler(len(sides), 0, 1)
    loader = make_loader(dataset, sampler, 1, count, report_unreadable=report)
    try:
        return [",".join(batch.names) or batch.failed[0][1] for batch in loader]
    finally:
        stop_workers(loader)


def test_batches_arrive_in_order_with_their_contents() -> None:
    dataset = Squares([4, 6, 8, 10, 12])
    loader = make_loader(dataset, EvalSampler(5, 0, 1), 1, 2)
    for _ in range(2):  # the workers stay for a second epoch
        seen = list(loader)
        assert [batch.names for batch in seen] == [[f"n{number}"] for number in range(5)]
        assert [batch.images.shape[2] for batch in seen] == [4, 6, 8, 10, 12]
        alone = [batch.images for batch in make_loader(dataset, EvalSampler(5, 0, 1), 1, 0)]
        assert all(one.images.equal(two) for one, two in zip(seen, alone, strict=True))
    stop_workers(loader)


def test_nothing_warns_of_more_workers_than_cores() -> None:
    make_loader(Squares([4]), EvalSampler(1, 0, 1), 1, usable_cpus() + 1)  # warnings are errors


def test_a_worker_that_is_killed_ends_the_loop_with_its_reason() -> None:
    started = time.monotonic()
    with pytest.raises(RuntimeError, match="DataLoader worker .*(killed by signal|exited)"):
        batches([8] * 20, 2, killed=3)
    assert time.monotonic() - started < 20


DIES_IN_FORK = """
import multiprocessing, os, signal, sys, time
sys.path.insert(0, {root!r})
from datasets.loader import make_loader
from datasets.samplers import EvalSampler
from tests.datasets.test_workers import Squares

def start():
    return iter(make_loader(Squares([4] * 4), EvalSampler(4, 0, 1), 1, 1))

def kill_first():
    if victims:
        os.kill(victims.pop(), signal.SIGKILL)
        time.sleep(0.2)

first = start()
victims = [process.pid for process in multiprocessing.active_children()]
os.register_at_fork(before=kill_first)
try:
    start()
except RuntimeError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_worker_that_dies_while_others_start_is_named_and_nothing_is_lost() -> None:
    command = [sys.executable, "-c", DIES_IN_FORK.format(root=str(ROOT))]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True,
                          timeout=60)  # fmt: skip
    assert "is killed by signal: Killed" in done.stdout
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
def test_slow_reading_is_waited_for() -> None:
    assert batches([4, 4], 1, seconds=1.0) == ["n0", "n1"]


def test_too_many_open_files_are_one_line() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 16, hard))
    try:
        with pytest.raises(DataError) as caught:
            batches([64] * 8, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "too many open files (ulimit -n is" in one_line(caught.value)
    assert "--num_workers" in one_line(caught.value)


def test_a_low_limit_of_open_files_is_raised_and_a_fixed_one_refused() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 10, hard))
        check_handles(8)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > used + 10
        with pytest.raises(DataError, match="ulimit -n allows .*--num_workers"):
            check_handles(hard if hard != resource.RLIM_INFINITY else 1 << 40)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_does_not_fit_is_said_with_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "available", lambda: 64 * GIB)
    monkeypatch.setattr(workers, "shared_free", lambda: 64 << 20)
    check_room(4, 1 << 20, 100)
    with pytest.raises(DataError, match=r"/dev/shm.*64.0 MiB are free.*--num_workers 0.*shm-size"):
        check_room(4, 32 << 20, 100)
    with pytest.raises(DataError, match="use --num_workers 1,"):
        check_room(4, 20 << 20, 100)
    check_room(4, 20 << 20, 2)  # so few batches never fill it
    check_room(0, 32 << 20, 100)
    with pytest.raises(DataError, match=r"one batch takes 9.1 TiB.*--bs_trn"):
        check_room(0, 10_000 * GIB // 1024 * 950, 100)
    with pytest.raises(DataError, match="the processes and the batches"):
        check_room(2000, 1 << 20, 100)


@pytest.mark.parametrize("count", [1000, 1_000_000])
def test_absurd_numbers_of_processes_are_refused_with_a_better_one(count: int) -> None:
    with pytest.raises(UserError, match=f"--num_workers {count}.*{usable_cpus()} usable core"):
        check_workers(count)
    check_workers(16)


SHM = """
import sys
sys.path.insert(0, {root!r})
from tests.datasets.test_workers import batches, one_line
try:
    print(batches({sides}, 2, report={report}))
except Exception as error:
    print(type(error).__name__, one_line(error))
"""


@pytest.mark.slow
@pytest.mark.parametrize("report", [False, True])
def test_full_shared_memory_is_one_line_not_a_hang(report: bool) -> None:
    code = SHM.format(root=str(ROOT), sides=[16, 16, 1000, 16, 1000, 16], report=report)
    shell = 'mount -t tmpfs -o size=2m tmpfs /dev/shm && exec "$0" -c "$1"'
    command = ["unshare", "-m", "bash", "-c", shell, sys.executable, code]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True,
                          timeout=60)  # fmt: skip
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"needs to mount a small /dev/shm: {done.stderr.strip()}")
    assert "/dev/shm is full" in done.stdout and "--shm-size" in done.stdout, done
    if report:  # each image costs its line, the others are there
        assert [f"'n{number}'" in done.stdout for number in range(6)] == [
            True, True, False, True, False, True,
        ]  # fmt: skip
    else:
        assert done.stdout.startswith("DataError") and len(done.stdout.splitlines()) == 1
