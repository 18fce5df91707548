# SPDX-License-Identifier: Apache-2.0
"""What a launcher says about the processes of a run, and waiting for them to arrive.

Launchers say it in the environment: WORLD_SIZE, RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT.
Without any of them there is one process.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from torch.distributed.rendezvous import rendezvous

from runtime.rendezvous import of_this_start

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

MAX_PROCESSES = 10**6
FIRST_LINE, NEXT_LINES = 5.0, 60.0  # seconds of waiting before a line says so
WITHOUT = "without a launcher unset WORLD_SIZE, with one let it set these variables"


def number_of(name: str, default: int, low: int, high: int) -> int:
    """A whole number from the environment; ValueError that names the variable."""
    text = os.environ.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise ValueError(
            f"environment {name}={shown}: a whole number {low}..{high} wanted; {WITHOUT}"
        )
    return value


def read_launch(local_rank: int) -> tuple[int, int]:
    """Rank and number of processes; ValueError for variables that do not fit together."""
    size = number_of("WORLD_SIZE", 1, 1, MAX_PROCESSES)
    rank = number_of("RANK", 0, 0, MAX_PROCESSES)
    here = number_of("LOCAL_WORLD_SIZE", size, 1, MAX_PROCESSES)
    if rank >= size:
        raise ValueError(
            f"environment RANK={rank}: WORLD_SIZE is {size}, ranks are 0..{size - 1}; {WITHOUT}"
        )
    if local_rank >= min(here, size):
        raise ValueError(
            f"--local_rank {local_rank} (LOCAL_RANK): the last process of this machine is "
            f"{min(here, size) - 1}, the first 0; {WITHOUT}"
        )
    if size > 1:
        for name in ("MASTER_ADDR", "MASTER_PORT"):
            if not os.environ.get(name):
                raise ValueError(
                    f"environment WORLD_SIZE={size}, but {name} is not set: where do the "
                    f"processes meet? {WITHOUT}"
                )
        number_of("MASTER_PORT", 0, 1, 65535)
    return rank, size


def _place() -> str:
    return f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"


@contextlib.contextmanager
def joining(rank: int, size: int, seconds: float) -> Iterator[None]:
    """While processes meet: lines about what is missing, errors of meeting as one ValueError.

    seconds: how long it may take, for the line about processes that did not arrive.
    """
    met = threading.Event()

    def talk() -> None:
        pause = FIRST_LINE
        while not met.wait(pause):
            print(
                f"rank {rank} waits for the others of {size} processes at {_place()} "
                f"(WORLD_SIZE={size}; for {seconds:g} s, --dist_timeout)",
                flush=True,
            )
            pause = NEXT_LINES

    threading.Thread(target=talk, daemon=True).start()
    try:
        yield
    except (RuntimeError, TimeoutError) as error:  # those of torch.distributed are RuntimeErrors
        reason = " ".join(str(error).split())
        if "EADDRINUSE" in reason or "address already in use" in reason:
            raise ValueError(
                f"environment MASTER_PORT={os.environ.get('MASTER_PORT')} is in use by another "
                "program; choose another"
            ) from error
        raise ValueError(
            f"rank {rank}: the {size} processes of WORLD_SIZE did not meet at {_place()} within "
            f"{seconds:g} s (--dist_timeout): {reason[:160]}; {WITHOUT}"
        ) from error
    finally:
        met.set()


def meet(rank: int, size: int, seconds: float, afterwards: timedelta) -> Store:
    """The store that all processes share, once each of them is there. Collective.

    afterwards: how long operations on the store may wait from then on. RuntimeError or TimeoutError
    if a process does not arrive.
    """
    limit = timedelta(seconds=seconds)
    store, _, _ = next(rendezvous("env://", rank, size, timeout=limit))
    store = of_this_start(store, rank, size, seconds)
    store.set_timeout(limit)
    store.set(f"hiseg/here/{rank}", "")
    store.wait([f"hiseg/here/{other}" for other in range(size)], limit)
    store.set_timeout(afterwards)
    return store
