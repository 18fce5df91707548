# SPDX-License-Identifier: Apache-2.0
"""How a program says how far it is: what progress and logs are, and when a line is due."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

Log = Callable[[str], None]
Progress = Callable[[int, int | None], None]  # done, in all; None where nobody knows

PROGRESS_SECONDS = 5.0  # between two lines about the same work


class Pace:
    """Says when `seconds` have passed since it last said so."""

    def __init__(self, seconds: float = PROGRESS_SECONDS) -> None:
        self.seconds, self.last = seconds, time.monotonic()

    def is_due(self) -> bool:
        """True once every `seconds`, first after so many."""
        now = time.monotonic()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True


def counter(title: str) -> Progress:
    """A counter on one line of a terminal, else a line every few seconds, on stdout."""
    pace = Pace()

    def report(done: int, total: int | None) -> None:
        if sys.stdout.isatty():
            print(f"\r{title}: {done}/{total}", end="\n" if done == total else "", flush=True)
        elif pace.is_due():
            print(f"{title}: {done}/{total}", flush=True)

    return report


def duration_text(seconds: float) -> str:
    """Seconds as 7 s, 3:05 min or 12:30 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02} h"
