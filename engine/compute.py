# SPDX-License-Identifier: Apache-2.0
"""What networks run on, and who follows an evaluation."""

from __future__ import annotations

import resource
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from runtime.distributed import World
from runtime.memory import available, local_ranks
from runtime.precision import Precision
from runtime.progress import Log, Progress


def _say_nothing(line: str) -> None:
    """A log that nobody reads."""


def _show_nothing(done: int, total: int | None) -> None:
    """Progress that nobody sees."""


@dataclass(frozen=True, kw_only=True)
class Compute:
    """The device of a network and its arithmetic: `autocast` is around the forward pass alone."""

    device: torch.device
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True, kw_only=True)
class Watch:
    """`log` gets a line for what goes wrong, `progress(batches done, batches or None)` follows."""

    log: Log = _say_nothing
    progress: Progress = _show_nothing


UNWATCHED = Watch()


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What a training computes on: this process among the others, and the arithmetic."""

    world: World
    precision: Precision


def peak_memory(device: torch.device) -> float:
    """The most that this process has taken so far, in GiB: of the GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # it counts KiB


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process may still take: of the GPU, or its share of the machine's.

    None if the system does not say.
    """
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + held
    left = available()
    return None if left is None else left // local_ranks()
