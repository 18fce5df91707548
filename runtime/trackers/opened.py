# SPDX-License-Identifier: Apache-2.0
"""The trackers of a run: opened together, fed from a thread, and lost one by one, never the run."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from runtime import seeds
from runtime.errors import UserError
from runtime.files import is_fatal, read_mapping, write_atomic
from runtime.limits import one_line
from runtime.trackers.contract import Maker, Opening, Tell, Tracker, without_password
from runtime.trackers.tensorboard import TensorBoard

FILE = "trackers.json"  # where the runs of the trackers are found again
MAX_WAITING = 10_000  # calls that a slow tracker may lag behind
PATIENCE = 60.0  # seconds that the end of a run waits for a tracker


class Background:
    """Calls a tracker from a thread, so that a slow network never holds a training up.

    The first error is told, and the tracker gets nothing more but the end of the run.
    """

    def __init__(self, tracker: Tracker, tell: Tell, patience: float = PATIENCE) -> None:
        self._tracker, self._tell, self._patience = tracker, tell, patience
        self._lost = threading.Event()
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    @property
    def facts(self) -> Mapping[str, str]:
        """Those of the tracker."""
        return self._tracker.facts

    @property
    def where(self) -> str:
        """That of the tracker."""
        return self._tracker.where

    def _lose(self, error: BaseException) -> None:
        if not self._lost.is_set():
            self._lost.set()
            self._tell(error)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception as error:  # whatever a library raises, the training goes on
                self._lose(error)

    def _put(self, call: Callable[[], None]) -> None:
        if self._lost.is_set():
            return
        try:
            self._calls.put_nowait(lambda: None if self._lost.is_set() else call())
        except queue.Full:
            self._lose(RuntimeError(f"it is {MAX_WAITING} calls behind"))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Pass numbers on."""
        self._put(lambda: self._tracker.log(values, step))

    def image(self, name: str, image: torch.Tensor, step: int) -> None:
        """Pass a copy of a picture on."""
        copy = image.detach().cpu().clone()
        self._put(lambda: self._tracker.image(name, copy, step))

    def close(self, state: str) -> None:
        """Wait until everything is passed on, but not forever."""
        with contextlib.suppress(queue.Full):
            self._calls.put(lambda: self._tracker.close(state), timeout=self._patience)
            self._calls.put(None, timeout=self._patience)
        self._thread.join(self._patience)
        if self._thread.is_alive():
            self._lose(TimeoutError(f"the last values were not taken within {self._patience:g} s"))


class Trackers:
    """All trackers of a run, by name. `tell(name)` gives what takes the errors of one of them."""

    def __init__(self, tell: Callable[[str], Tell]) -> None:
        self._tell = tell
        self._open: dict[str, Tracker] = {}

    def open(
        self,
        makers: Mapping[str, Maker],
        directory: Path,
        settings: Mapping[str, Any],
        goes_on: bool,
    ) -> list[str]:
        """Open them, and give one line on each place; `goes_on`: in the runs of FILE.

        Libraries may draw random numbers for their names: the states are put back. Raises UserError
        for one that cannot start, unless the run goes on, which it then does without it.
        """
        known = read_known(directory) if goes_on else {}
        is_damaged = goes_on and not known and (directory / FILE).exists()
        state = seeds.random_state()
        try:
            for name, maker in makers.items():
                self._start(name, maker, directory, settings, known.get(name))
        finally:
            seeds.set_random_state(state)
        facts = {name: dict(each.facts) for name, each in self._open.items() if each.facts}
        if facts:
            text = json.dumps({**known, **facts}, indent=2)
            write_atomic(directory / FILE, f"{text}\n".encode())
        lines = [f"{name}: {each.where}" for name, each in self._open.items() if each.where]
        if is_damaged:
            lines.append(f"{directory / FILE} is damaged: these are new runs of the trackers")
        return lines

    def _start(
        self,
        name: str,
        maker: Maker,
        directory: Path,
        settings: Mapping[str, Any],
        known: Mapping[str, str] | None,
    ) -> None:
        tell = self._tell(name)
        try:
            tracker = maker(Opening(directory=directory, settings=settings, known=known, tell=tell))
        except Exception as error:
            if is_fatal(error):
                raise
            if known is not None:
                tell(error)
                return
            self.close("failed")
            reason = one_line(without_password(str(error)) or type(error).__name__)
            raise UserError(
                f"--tracker {name} cannot start: {reason}; mend that, or leave it out"
            ) from error
        writes_files = isinstance(tracker, TensorBoard)
        self._open[name] = tracker if writes_files else Background(tracker, tell)

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            try:
                act(tracker)
            except Exception as error:
                del self._open[name]
                self._tell(name)(error)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers to all of them."""
        self._each(lambda tracker: tracker.log(values, step))

    def image(self, name: str, image: torch.Tensor, step: int) -> None:
        """A (3, H, W) picture, 0..1, to all of them."""
        self._each(lambda tracker: tracker.image(name, image, step))

    def close(self, state: str) -> None:
        """Close them; `state` as in status.json."""
        self._each(lambda tracker: tracker.close(state))
        self._open.clear()


def read_known(directory: Path) -> dict[str, dict[str, str]]:
    """What FILE holds of each tracker; nothing of a file that is missing or not as written."""
    return {
        name: facts
        for name, facts in read_mapping(directory / FILE).items()
        if isinstance(facts, dict) and all(isinstance(value, str) for value in facts.values())
    }
