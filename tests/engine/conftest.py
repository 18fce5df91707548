# SPDX-License-Identifier: Apache-2.0
"""What several tests of the engine start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.runlog import RunLog


@pytest.fixture
def log(tmp_path: Path) -> Iterator[RunLog]:
    run_log = RunLog(tmp_path, is_main=True, progress=False)
    run_log.open({})
    yield run_log
    run_log.close()
