# SPDX-License-Identifier: Apache-2.0
"""Time and peak memory of several ways to do one thing, and the table of both.

Sides take turns in one process, so that all meet the same machine; memory is that of a process
of its own for each side.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.heap import give_freed_memory_back
from runtime.memory import peak_above

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Measured:
    """CPU seconds of the fastest call; bytes above what lay there before it, if measured."""

    seconds: float
    peak_bytes: int | None = None


def time_in_turn(
    sides: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Seconds of the fastest of `rounds` calls of each side.

    CPU time of this process unless another `clock` is given (a GPU needs `time.perf_counter`), so
    other load on the machine disturbs little; equal to wall time for a single thread on an idle
    machine.
    """
    best = dict.fromkeys(sides, float("inf"))
    for _ in range(rounds):
        for name, call in sides.items():
            start = clock()
            call()
            best[name] = min(best[name], clock() - start)
    return best


def peak_of_call(call: Callable[[], object]) -> int:
    """Bytes by which the resident set grew at its highest during `call()` (Linux, glibc)."""
    gc.collect()
    # From here on every tensor is a mapping that goes back to the system at once: memory that was
    # freed and is used again would not be counted.
    give_freed_memory_back(2**16)
    peak = peak_above(call)
    if peak is None:
        raise RuntimeError("this system does not tell the memory of a process; Linux does")
    return peak


def _child(connection: Any, make: Callable[..., Callable[[], object]], *arguments: Any) -> None:
    connection.send(peak_of_call(make(*arguments)))


def peak_in_new_process(make: Callable[..., Callable[[], object]], *arguments: Any) -> int:
    """`peak_of_call` of what `make(*arguments)` returns, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_child, args=(there, make, *arguments))
    process.start()
    there.close()
    try:
        peak = int(here.recv())
    finally:
        process.join()
    return peak


def measure(
    make: Callable[..., Callable[[], object]], names: Iterable[str], *arguments: Any, rounds: int
) -> dict[str, Measured]:
    """Time and memory of the calls that `make(name, *arguments)` gives for every name."""
    sides = {name: make(name, *arguments) for name in names}
    seconds = time_in_turn(sides, rounds)
    peaks = {name: peak_in_new_process(make, name, *arguments) for name in sides}
    return {name: Measured(seconds=seconds[name], peak_bytes=peaks[name]) for name in sides}


def print_table(
    title: str, rows: Mapping[str, Measured | float], limit: float | None = None
) -> None:
    """One line per side, seconds or `Measured`; ratios are to the first, `limit` is the promise."""
    sides = {
        n: row if isinstance(row, Measured) else Measured(seconds=row) for n, row in rows.items()
    }
    first = next(iter(sides.values()))
    print(title if limit is None else f"{title} (limit {limit:g})")
    for name, side in sides.items():
        line = f"  {name:32}{1e3 * side.seconds:10.2f} ms  x {side.seconds / first.seconds:.3f}"
        if side.peak_bytes is not None and first.peak_bytes:
            ratio = side.peak_bytes / first.peak_bytes
            line += f"{side.peak_bytes / MIB:10.0f} MiB  x {ratio:.3f}"
        print(line, flush=True)
