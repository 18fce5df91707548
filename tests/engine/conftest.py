# SPDX-License-Identifier: Apache-2.0
"""What several tests of the engine start from."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.outcome import StopFlag
from runtime.runlog import RunLog


@pytest.fixture
def log(tmp_path: Path) -> Iterator[RunLog]:
    run_log = RunLog(tmp_path, is_main=True, progress=False)
    run_log.open({})
    yield run_log
    run_log.close()


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """A StopFlag takes SIGTERM and SIGINT, which belong to pytest again afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    StopFlag.current = None
    for number, handler in before.items():
        signal.signal(number, handler)
