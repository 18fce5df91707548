# SPDX-License-Identifier: Apache-2.0
"""Who may use the network next: one at a time, in the order of arrival, at most so many waiting."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

LOOK = 0.5  # seconds between two looks whether somebody in the line is still there


class LineFull(Exception):
    """There is no room for one more."""


class LineClosed(Exception):
    """Nobody is served any more."""


class LeftLine(Exception):
    """Who was waiting has gone."""


class Line:
    """A bounded line in front of something that serves one at a time.

    A place is taken in two steps, because what is wanted takes time to arrive: `entered` reserves
    the room, `turn` inside it waits. room: how many may wait besides the one that is served.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self._changed = threading.Condition()
        self._inside = 0
        self._waiting: list[tuple[object, str]] = []  # the first one is being served
        self._is_open = True

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Room in the line; raises LineFull at once if there is none, LineClosed at the end."""
        with self._changed:
            self._check_open()
            if self._inside > self.room:
                raise LineFull
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def turn(self, ticket: str, is_gone: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Wait until all who came before are served.

        ticket: the name that `place` asks for. Raises LeftLine when `is_gone` says so, LineClosed
        when the line is closed.
        """
        own = (object(), ticket)
        with self._changed:
            self._waiting.append(own)
        try:
            self._wait(own, is_gone)
            yield
        finally:
            with self._changed:
                self._waiting.remove(own)
                self._changed.notify_all()

    def _wait(self, own: tuple[object, str], is_gone: Callable[[], bool]) -> None:
        while True:
            with self._changed:
                self._check_open()
                if self._waiting[0] is own:
                    break
                self._changed.wait(LOOK)
            if is_gone():
                raise LeftLine
        if is_gone():
            raise LeftLine

    def _check_open(self) -> None:
        if not self._is_open:
            raise LineClosed

    def place(self, ticket: str) -> int | None:
        """How many come before; None for a ticket that is not waiting."""
        with self._changed:
            places = [number for number, each in enumerate(self._waiting) if each[1] == ticket]
        return places[0] if places else None

    def close(self, seconds: float) -> bool:
        """Serve nobody else, and wait until the one being served is done; False: it still is not.

        All who wait get LineClosed.
        """
        end = time.monotonic() + seconds
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
            while self._waiting and time.monotonic() < end:
                self._changed.wait(LOOK)
            return not self._waiting
