# SPDX-License-Identifier: Apache-2.0
"""Wrong flags of benchmarks are refused before anything is measured."""

from __future__ import annotations

import importlib
import sys

import pytest

PROGRAMS = ("archives", "forward", "loaders", "pipeline", "ranks", "step")


@pytest.mark.parametrize("rounds", ["0", "-1", "1.5", "nan"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_less_than_one_round_is_refused(
    name: str, rounds: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = importlib.import_module(f"benchmarks.{name}")
    argv = ["--rounds", rounds]
    monkeypatch.setattr(sys, "argv", [name, *argv])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 2
    assert f"error: argument --rounds: {rounds}" in capsys.readouterr().err


@pytest.mark.parametrize("ranks", ["0", "-2", "4096"])
def test_ranks_without_a_core_are_refused(
    ranks: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = importlib.import_module("benchmarks.ranks")
    monkeypatch.setattr(sys, "argv", ["ranks", "--ranks", ranks])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 2
    assert f"--ranks{':' if int(ranks) < 1 else ''} {ranks}" in capsys.readouterr().err
