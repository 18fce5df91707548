# SPDX-License-Identifier: Apache-2.0
"""The window benchmark compares equal scores, and its ratio is below the promised one."""

from __future__ import annotations

import pytest

from benchmarks.sliding import BATCH, LIMIT, build, compare


@pytest.mark.slow
def test_batches_of_windows_take_at_most_the_promised_share() -> None:
    seconds = compare(build(), (128, 192), 64, "cpu", rounds=3)
    assert list(seconds) == ["1 windows a pass", f"{BATCH} windows a pass"]
    one, many = seconds.values()
    assert many <= LIMIT * one
