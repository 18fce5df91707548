# SPDX-License-Identifier: Apache-2.0
"""Loader processes that cannot hang: what they need is there, or one line says what is missing.

Batches come from the workers through shared memory. torch puts them there in a thread of the worker
whose errors go unheard: without space in /dev/shm or without file handles the batch is lost and the
main process waits for it forever. Here a batch is packed where it is made, so the error takes the
place of the batch; nothing depends on a timeout.
"""

from __future__ import annotations

import os
import pickle
import resource
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Protocol

from torch.utils.data import DataLoader, get_worker_info

from datasets.base import DataError
from runtime.memory import available, local_ranks, shared_free, size_text
from runtime.worker import deaths_deferred

PREFETCH = 2  # batches that each worker keeps ready, at most
WORKER_BYTES = 64 << 20  # that a process needs for itself, at least
WORKER_HANDLES = 4  # queue and liveness pipe of a worker, which every later one inherits
BATCH_HANDLES = 20  # of the batches that a process holds, and of handing them over
SPARE_HANDLES = 12  # what the thread that hands over a batch needs, whose errors go unheard
LESS = "use fewer --num_workers (0: none)"
SHARED = "/dev/shm is full"
HANDLES = "too many open files"


class Shareable(Protocol):
    """What travels between processes."""

    def share(self) -> None:
        """Move all tensors to shared memory."""

    def pin_memory(self) -> Any:
        """Collate; called by the DataLoader."""


class Packed:
    """A batch in shared memory on its way to the main process."""

    def __init__(self, batch: Shareable) -> None:
        _check_spare()
        batch.share()  # a tensor that does not fit is freed again, one that is packed is not
        self.content, self.worker = bytes(ForkingPickler.dumps(batch)), os.getpid()

    def unpack(self) -> Any:
        """The batch. RuntimeError if its worker is gone, DataError without file handles."""
        try:
            return pickle.loads(self.content)
        except (ConnectionError, EOFError, FileNotFoundError) as error:
            message = f"DataLoader worker (pid {self.worker}) exited unexpectedly"
            raise RuntimeError(message) from error
        except (OSError, RuntimeError) as error:
            reason = sharing_reason(error)
            if not reason:
                raise
            raise DataError(reason) from error

    def pin_memory(self) -> Any:
        """The batch in page-locked memory; called by the DataLoader's thread."""
        return self.unpack().pin_memory()


def _check_spare() -> None:
    """OSError unless a few more files can be opened."""
    opened = []
    try:
        for _ in range(SPARE_HANDLES):
            opened.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for handle in opened:
            os.close(handle)


class Packing:
    """`collate` as a worker calls it.

    `give_up(items, reason)` makes the batch that carries the reason; without it a DataError is
    raised.
    """

    def __init__(
        self,
        collate: Callable[[Sequence[Any]], Shareable],
        give_up: Callable[[Sequence[Any], str], Shareable] | None = None,
    ) -> None:
        self.collate, self.give_up = collate, give_up

    def __call__(self, items: Sequence[Any]) -> object:
        batch = self.collate(items)
        if get_worker_info() is None:
            return batch
        try:
            return Packed(batch)
        except (OSError, RuntimeError) as error:
            reason = sharing_reason(error)
            if not reason:
                raise
            if self.give_up is None:
                raise DataError(reason) from error
            return Packed(self.give_up(items, reason))


def sharing_reason(error: Exception) -> str:
    """What to do about a batch that could not be shared; "" for any other error."""
    text = str(error)
    if (
        "Too many open files" in text or "ancdata" in text
    ):  # raised for a handle that could not be opened
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"loader processes: {HANDLES} (ulimit -n is {limit}); raise it, or {LESS}"
    if "shared memory" in text or "No space left on device" in text:
        free = shared_free()
        left = "" if free is None else f" ({size_text(free)} free)"
        return (
            f"loader processes: {SHARED}{left}, a batch does not fit; {LESS}, or raise it "
            "(docker --shm-size=8g or --ipc=host)"
        )
    return ""


class WorkerLoader(DataLoader[Any]):
    """A DataLoader of `Packing` batches. DataError when its processes cannot be started."""

    def __iter__(self) -> Any:
        try:
            with deaths_deferred():
                batches = super().__iter__()
            return self._unpacked(batches)
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "start new thread" not in str(error):
                raise
            reason = sharing_reason(error) or (
                f"--num_workers {self.num_workers}: processes cannot be started "
                f"({getattr(error, 'strerror', None) or error}); {LESS}"
            )
            raise DataError(reason) from error

    def check_worker_number_rationality(self) -> None:
        """Nothing: torch would warn, several lines for each loader, of a number the user chose."""

    @staticmethod
    def _unpacked(batches: Iterator[Any]) -> Iterator[Any]:
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if HANDLES not in str(error).lower():
                    raise
                raise DataError(sharing_reason(error)) from error
            yield batch.unpack() if isinstance(batch, Packed) else batch


def check_room(
    workers: int,
    batch_bytes: int,
    num_batches: int,
    flags: str = "--bs_trn or --crop_size",
    others: int = 0,
) -> None:
    """Raise DataError unless memory, shared memory and file handles are enough for a loader.

    batch_bytes: of the tensors of one batch, 0 if not known beforehand; num_batches: that a rank
    reads in total; flags: what makes a batch smaller; others: workers of another loader that run
    beside these.
    """
    ranks = local_ranks()
    left = available()
    if left is not None and batch_bytes * ranks > left:
        raise DataError(
            f"one batch takes {size_text(batch_bytes)}, {size_text(left)} of memory are free; "
            f"use a smaller {flags}"
        )
    if not workers:
        return
    waiting = min(PREFETCH * workers, num_batches) + 1  # and the one in progress
    needed = ranks * (workers * WORKER_BYTES + waiting * batch_bytes)
    if left is not None and needed > left:
        raise DataError(
            f"--num_workers {workers}: the processes and the batches that they keep ready take "
            f"{size_text(needed)}, {size_text(left)} of memory are free; {LESS} or a smaller "
            f"{flags}"
        )
    free = shared_free()
    if free is not None and ranks * waiting * batch_bytes > free:
        raise DataError(
            f"--num_workers {workers}: batches of {size_text(batch_bytes)} wait in /dev/shm, up to "
            f"{size_text(ranks * waiting * batch_bytes)}, and {size_text(free)} are free there; "
            f"use --num_workers {_fitting(free // ranks, batch_bytes)}, a smaller {flags}, or "
            "raise it (docker --shm-size=8g or --ipc=host)"
        )
    check_handles(workers + others)


def _fitting(free: int, batch_bytes: int) -> int:
    """The number of workers whose batches fit into `free` bytes."""
    return max((free // batch_bytes - 1) // PREFETCH, 0)


def check_handles(workers: int) -> None:
    """Raise the limit of open files as far as the system allows; DataError if that is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft == resource.RLIM_INFINITY:
        return
    try:
        in_use = len(list(Path("/proc/self/fd").iterdir()))
    except OSError:
        in_use = 32
    needed = in_use + workers * WORKER_HANDLES + BATCH_HANDLES
    if needed > hard:
        raise DataError(
            f"{workers} loader processes need about {needed} open files, and ulimit -n allows "
            f"{hard}; raise it, or {LESS}"
        )
    if needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
