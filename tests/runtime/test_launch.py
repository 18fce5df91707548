# SPDX-License-Identifier: Apache-2.0
"""The variables of a launcher, and processes that do not come."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from runtime.launch import read_launch
from tests.program import ROOT, free_port

NAMES = ("WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK")
PLACE = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RANK": "x"}, "environment RANK=x: a whole number 0"),
        ({"WORLD_SIZE": "x"}, "environment WORLD_SIZE=x: a whole number 1"),
        ({"WORLD_SIZE": ""}, "environment WORLD_SIZE=: "),
        ({"WORLD_SIZE": "0"}, "environment WORLD_SIZE=0"),
        ({"WORLD_SIZE": "-2"}, "environment WORLD_SIZE=-2"),
        ({"WORLD_SIZE": "9" * 99}, r"environment WORLD_SIZE=9+\.\.\.:"),
        ({"RANK": "1"}, "environment RANK=1: WORLD_SIZE is 1"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2, but MASTER_ADDR is not set"),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "h"}, "WORLD_SIZE=2, but MASTER_PORT is not set"),
        ({**PLACE, "MASTER_PORT": "x"}, "environment MASTER_PORT=x: a whole number 1..65535"),
        ({**PLACE, "MASTER_PORT": "70000"}, "environment MASTER_PORT=70000"),
        ({**PLACE, "RANK": "2"}, "environment RANK=2: WORLD_SIZE is 2, ranks are 0..1"),
        ({**PLACE, "LOCAL_WORLD_SIZE": "x"}, "environment LOCAL_WORLD_SIZE=x"),
    ],
)
def test_a_wrong_variable_is_named(
    variables: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=words) as error:
        read_launch(0)
    assert "\n" not in str(error.value)


def test_a_local_rank_beyond_the_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="--local_rank 7 .* the last process of this machine is 0"):
        read_launch(7)
    for name, value in {**PLACE, "LOCAL_WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="--local_rank 1 "):
        read_launch(1)
    assert read_launch(0) == (0, 2)


JOIN = "from runtime import distributed, launch; launch.FIRST_LINE = 0.2; "
JOIN += "print(distributed.join('cpu', 0, {wait}).rank); distributed.barrier(); distributed.leave()"


def start(rank: int, port: str, wait: float) -> subprocess.Popen[str]:
    variables = {**PLACE, "MASTER_PORT": port, "RANK": str(rank)}
    return subprocess.Popen(
        [sys.executable, "-c", JOIN.format(wait=wait)], cwd=ROOT, text=True,
        env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_who_waits_alone_says_so_and_ends(rank: int) -> None:
    port, started = free_port(), time.monotonic()
    out, err = start(rank, port, 3).communicate(timeout=60)
    assert time.monotonic() - started < 40
    assert f"rank {rank} waits for the others of 2 processes at 127.0.0.1:{port}" in out
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"ValueError: rank {rank}: the 2 processes of WORLD_SIZE did not meet")
    assert "within 3 s (--dist_timeout)" in last


@pytest.mark.slow
def test_processes_that_come_late_are_waited_for() -> None:
    port = free_port()
    first = start(0, port, 60)
    time.sleep(1)
    second = start(1, port, 60)
    outs = [process.communicate(timeout=100)[0].split()[-1] for process in (first, second)]
    assert outs == ["0", "1"]
    assert (first.returncode, second.returncode) == (0, 0)


@pytest.mark.slow
def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        _, err = start(0, port, 3).communicate(timeout=60)
    assert f"environment MASTER_PORT={port} is in use" in err
