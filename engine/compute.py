# SPDX-License-Identifier: Apache-2.0
"""Where an evaluation runs, and who follows it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

Log = Callable[[str], None]


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
    progress: Callable[[int, int | None], None] = _show_nothing


UNWATCHED = Watch()
