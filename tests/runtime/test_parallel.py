# SPDX-License-Identifier: Apache-2.0
"""Work in threads: in order, and over at the first error."""

from __future__ import annotations

import threading

import pytest

from runtime.parallel import in_threads


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    assert list(in_threads(lambda number: number * number, range(50), workers)) == [
        number * number for number in range(50)
    ]


def test_several_items_are_worked_on_at_once() -> None:
    meeting = threading.Barrier(3, timeout=20)
    assert len(list(in_threads(lambda number: meeting.wait(), range(3), 3))) == 3


def test_the_first_error_ends_the_work() -> None:
    done: list[int] = []

    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        done.append(number)
        return number

    with pytest.raises(ValueError, match="three"):
        list(in_threads(work, range(10_000), 1))
    assert len(done) < 10_000 - 1
