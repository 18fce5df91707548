# SPDX-License-Identifier: Apache-2.0
"""Times of several ways to do one thing, measured in turn so that all meet the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def time_alternately(
    sides: Mapping[str, Callable[[], object]], rounds: int = 15
) -> dict[str, float]:
    """Seconds of the fastest of `rounds` calls of each side, after one call to warm up."""
    best = dict.fromkeys(sides, float("inf"))
    for number in range(rounds + 1):
        for name, call in sides.items():
            start = time.perf_counter()
            call()
            if number:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def print_table(title: str, seconds: Mapping[str, float], limit: float | None) -> None:
    """Milliseconds of each side and the ratio to the first one; `limit` is the promised ratio."""
    baseline = next(iter(seconds.values()))
    print(title if limit is None else f"{title} (limit {limit:g})")
    for name, value in seconds.items():
        print(f"  {name:32} {1e3 * value:9.2f} ms   x {value / baseline:.3f}")
