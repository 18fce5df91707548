# SPDX-License-Identifier: Apache-2.0
"""Rows of measured values, the time that is left for more, and how long a call takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import MIB

WARM_CALLS = 2  # before a measurement: libraries choose their algorithms in the first ones
LEAST_CALLS = 3
PEAK_SIDES = {"cuda": 8192, "cpu": 1024}  # of the matrices whose product tells a device's peak


@dataclass(frozen=True, kw_only=True)
class Row:
    """One result: what was measured in which section, its values, or why there are none.

    is_wrong: the reason is an error of this project, not a lack of time, memory or data.
    """

    section: str
    name: str
    values: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    is_wrong: bool = False

    def __str__(self) -> str:
        shown = (f"{key} {_text(value)}" for key, value in self.values.items())
        return f"{self.name:64} {self.problem or '  '.join(shown)}"


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(kw_only=True)
class Clock:
    """The time of all sections together; every section may take its share of what is left."""

    end: float
    section_end: float = 0.0

    def begin(self, share: float) -> None:
        """A section begins that may take `share` of the rest."""
        now = time.monotonic()
        self.section_end = now + share * max(self.end - now, 0.0)

    @property
    def is_up(self) -> bool:
        """Whether the section has to end."""
        return time.monotonic() >= self.section_end

    @property
    def left(self) -> float:
        """Seconds of the section."""
        return max(self.section_end - time.monotonic(), 0.0)


def wait_for(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call after warming up: seconds, floating-point operations of its products, peak bytes."""

    seconds: float
    flops: float
    peak_bytes: int | None

    def values(self, images: int, peak_flops: float) -> dict[str, Any]:
        """As a row has them; `peak_flops`: that the device does in a second at best."""
        found: dict[str, Any] = {
            "images/s": images / self.seconds,
            "ms": 1e3 * self.seconds,
            "share of peak": self.flops / self.seconds / peak_flops,
        }
        if self.peak_bytes is not None:
            found["peak MiB"] = round(self.peak_bytes / MIB)
        return found


def timed(call: Callable[[], object], device: torch.device, seconds: float) -> Call:
    """The mean of as many calls as fit into `seconds`, three at least.

    Memory is that of a GPU. Operations are those of products, convolutions and attention, counted
    in the first call.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with FlopCounterMode(display=False) as counter:
        call()
    for _ in range(WARM_CALLS - 1):
        call()
    wait_for(device)
    start, done = time.perf_counter(), 0
    while done < LEAST_CALLS or time.perf_counter() - start < seconds:
        call()
        wait_for(device)
        done += 1
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return Call(
        seconds=(time.perf_counter() - start) / done,
        flops=float(counter.get_total_flops()),
        peak_bytes=peak,
    )


def peak_flops(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """Operations a second of a product of large square matrices: the most that can be hoped for."""
    side = PEAK_SIDES[device.type]
    one, two = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / timed(lambda: one @ two, device, seconds).seconds
