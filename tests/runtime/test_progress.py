# SPDX-License-Identifier: Apache-2.0
"""How far a program is: lines in time, and a counter that stays on one line of a terminal."""

from __future__ import annotations

import sys
import time

import pytest

from runtime.progress import Pace, counter


def test_a_pace_is_due_once_in_its_time() -> None:
    pace = Pace(0.05)
    assert not pace.is_due()
    time.sleep(0.06)
    assert [pace.is_due(), pace.is_due()] == [True, False]
    assert not any(Pace(60).is_due() for _ in range(3))


def test_a_file_gets_no_line_about_work_that_is_soon_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = counter("checking")
    for done in range(1, 5):
        report(done, 4)
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_a_counter_on_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    report = counter("checking")
    for done in (1, 2):
        report(done, 2)
    assert capsys.readouterr().out == "\rchecking: 1/2\rchecking: 2/2\n"
