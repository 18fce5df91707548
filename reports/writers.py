# SPDX-License-Identifier: Apache-2.0
"""Processes that encode and write files while the network goes on.

    writers = Writers(2, lambda result, facts: rows.append((facts, result)))
    writers.submit(job, name="aachen/x", facts={...})    # waits while too much is pending
    failed = writers.finish()                            # (name, error) of what was not written

Jobs must be picklable, and the modules that they need must not load torch.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields
from multiprocessing.process import BaseProcess
from signal import SIGTERM, Signals
from typing import Any, Protocol

import cv2
import numpy as np

from runtime.files import is_fatal
from runtime.worker import set_up

PENDING_PER_WORKER = 2  # jobs that may wait
PENDING_BYTES = 512 << 20  # of their arrays, unless a single job has more
FAILURES = (OSError, MemoryError, UnicodeError, cv2.error)  # of one image, not of this program


class Job(Protocol):
    """Something to encode and write."""

    def run(self) -> Any:
        """Do it; what is returned goes back to the main process. OSError if it cannot be done."""


class _Nothing:
    """A job that only starts a process."""

    def run(self) -> None:
        """Nothing to do."""


class WriterDied(RuntimeError):
    """A writer process was killed; the message names it."""


@dataclass(frozen=True, kw_only=True)
class _Pending:
    future: Future[Any]
    name: str
    facts: Any
    num_bytes: int


class Writers:
    """`workers` processes that run jobs, started by the first job unless `start` was called.

    With 0 this process runs them.
    `done(result, facts)` is called here, in the order of the jobs, once a job is done.
    """

    def __init__(self, workers: int, done: Callable[[Any, Any], None]) -> None:
        self.workers, self.done = workers, done
        self._pool: ProcessPoolExecutor | None = None
        self._processes: list[BaseProcess] = []
        self._pending: deque[_Pending] = deque()
        self._failed: list[tuple[str, Exception]] = []

    def start(self) -> None:
        """Start the processes, which takes them a second, while the first image is predicted."""
        for _ in range(self.workers):
            self._started(_Nothing())

    def submit(self, job: Job, name: str, facts: Any) -> None:
        """Have `job` done, now or later; returns once little enough is pending.

        An error of a job that is done here is raised, one of a process comes with `finish`, except
        one that stops all further jobs too, such as a full disk. WriterDied if a process is gone.
        """
        if not self.workers:
            self.done(job.run(), facts)
            return
        num_bytes = _num_bytes(job)
        self._drain(PENDING_PER_WORKER * self.workers - 1, PENDING_BYTES - num_bytes)
        try:
            future = self._started(job)
        except BrokenProcessPool as error:
            raise self._died() from error
        self._pending.append(_Pending(future=future, name=name, facts=facts, num_bytes=num_bytes))

    def finish(self) -> list[tuple[str, Exception]]:
        """Wait for all jobs and end the processes; the names of what failed, and why."""
        self._drain(0, 0)
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        failed, self._failed = self._failed, []
        return failed

    def _started(self, job: Job) -> Future[Any]:
        """Give `job` to the pool; its processes, started one by one, are kept to name a dead."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, context, initializer=set_up)
        if len(self._processes) == self.workers:
            return self._pool.submit(job.run)
        before = set(multiprocessing.active_children())
        future = self._pool.submit(job.run)
        self._processes += set(multiprocessing.active_children()) - before
        return future

    def _drain(self, count: int, num_bytes: int) -> None:
        """Note what is done; wait until at most `count` jobs of `num_bytes` are pending."""
        held = sum(each.num_bytes for each in self._pending)
        while self._pending:
            first = self._pending[0]
            is_much = len(self._pending) > count or held > max(num_bytes, 0)
            if not is_much and not first.future.done():
                return
            try:
                result = first.future.result()
            except BrokenProcessPool as error:
                raise self._died() from error
            except FAILURES as error:
                if is_fatal(error):
                    raise
                self._failed.append((first.name, error))
            else:
                self.done(result, first.facts)
            held -= first.num_bytes
            self._pending.popleft()

    def _died(self) -> WriterDied:
        """Which process is gone; the others were ended for it by the pool."""
        if self._pool is not None:
            self._pool.shutdown()  # while it waits for them it alone may be told how they ended
        killed = [each for each in self._processes if each.exitcode]
        killed.sort(key=lambda each: each.exitcode == -SIGTERM)  # by which the pool ends the others
        if not killed:
            return WriterDied("a writer process exited unexpectedly")
        code = killed[0].exitcode or 0
        how = f"is killed by signal: {Signals(-code).name}" if code < 0 else f"exited with {code}"
        return WriterDied(f"writer process (pid {killed[0].pid}) {how}")


def _num_bytes(job: Job) -> int:
    """Of the arrays of a job, a dataclass."""
    values = [getattr(job, each.name) for each in fields(job)]  # type: ignore[arg-type]
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))
