# SPDX-License-Identifier: Apache-2.0
"""The line in front of the network, with real threads."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.line import LeftLine, Line, LineClosed, LineFull


def until(condition: object, seconds: float = 5.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "never true"
        time.sleep(0.002)


def test_one_at_a_time_in_the_order_of_arrival_with_visible_places() -> None:
    line, served, places = Line(10), [], []
    inside, most = [0], [0]
    leave = threading.Event()

    def visit(name: str) -> None:
        with line.entered(), line.turn(name):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            leave.wait(5)
            served.append(name)
            inside[0] -= 1

    with ThreadPoolExecutor(5) as pool:
        for number, name in enumerate("abcde"):
            pool.submit(visit, name)
            until(lambda name=name: line.place(name) is not None)
            places.append(line.place(name))
            assert places[-1] == number
        assert line.place("z") is None
        leave.set()
    assert served == list("abcde") and most == [1]
    assert line.place("a") is None


def test_a_full_line_says_so_at_once_and_has_room_again() -> None:
    line = Line(1)
    with line.entered(), line.entered(), pytest.raises(LineFull), line.entered():
        pass
    with line.entered():
        pass


def test_who_has_gone_is_not_served() -> None:
    line, gone = Line(5), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with line.entered(), line.turn("first"):

            def visit() -> None:
                with line.entered(), line.turn("second", gone.is_set):
                    pass

            waiting = pool.submit(visit)
            until(lambda: line.place("second") == 1)
            gone.set()
            assert isinstance(waiting.exception(5), LeftLine)
        assert line.place("first") is None


def test_a_closed_line_waits_for_the_one_inside_and_sends_the_others_away() -> None:
    line, leave = Line(5), threading.Event()

    def visit(name: str) -> None:
        with line.entered(), line.turn(name):
            leave.wait(5)

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(visit, "first")
        until(lambda: line.place("first") == 0)
        second = pool.submit(visit, "second")
        until(lambda: line.place("second") == 1)
        assert not line.close(0.01)
        assert isinstance(second.exception(5), LineClosed)
        closing = pool.submit(line.close, 5.0)
        leave.set()
        assert closing.result(5) and first.exception(5) is None
    with pytest.raises(LineClosed), line.entered():
        pass


def test_an_error_inside_makes_room() -> None:
    line = Line(0)
    for _ in range(3):
        with pytest.raises(ValueError, match="x"), line.entered(), line.turn("a"):
            raise ValueError("x")
