# SPDX-License-Identifier: Apache-2.0
"""A training that is killed again and again ends as if it had never been; real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kills import try_kills

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("val_iters", [None, 2])
def test_kills_at_random_moments_change_nothing(tmp_path: Path, val_iters: int | None) -> None:
    struck, problems = try_kills(tmp_path, 8, val_iters=val_iters, seed=1)
    assert not problems
    assert struck >= 6


def test_torchrun_starts_killed_ranks_again_and_nothing_changes(tmp_path: Path) -> None:
    struck, problems = try_kills(tmp_path, 5, ranks=2, seed=2)
    assert not problems
    assert struck >= 4
