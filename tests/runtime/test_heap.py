# SPDX-License-Identifier: Apache-2.0
"""Memory that is freed and wanted again stays with the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import resource, sys
import numpy as np
from runtime.heap import keep_freed_memory
if sys.argv[1:]:
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for round in range(20):
    if round == 10:
        before = faults()
    blocks = [np.ones(3 << 20, np.uint8) for _ in range(4)]
    del blocks
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="GNU's allocator")
def test_images_of_the_same_size_take_no_new_pages() -> None:
    def new_pages(*argv: str) -> int:
        command = [sys.executable, "-c", PROGRAM, *argv]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    usual, kept = new_pages(), new_pages("keep")
    assert kept < 500 and usual > 5 * kept
