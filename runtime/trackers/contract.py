# SPDX-License-Identifier: Apache-2.0
"""What a tracker is, and what it is told when it is opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

PROJECT = "hiseg"  # in which trackers file the runs, unless their own settings name another

Tell = Callable[[BaseException], None]


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What is known of a run when its trackers are opened.

    directory: that of the run. settings: its flags, in plain types. known: the `facts` of the same
    tracker in the part of the run that is resumed; None for a new run. tell: takes an error that
    costs values, but not the tracker.
    """

    directory: Path
    settings: Mapping[str, Any]
    known: Mapping[str, str] | None = None
    tell: Tell = field(default=lambda error: None)

    @property
    def name(self) -> str:
        """What the run is called: the name of its folder."""
        return self.directory.resolve().name


class Tracker(Protocol):
    """Takes numbers and pictures; any exception means that it cannot go on."""

    @property
    def facts(self) -> Mapping[str, str]:
        """What finds the run again when it is resumed."""

    @property
    def where(self) -> str:
        """What the user is told of the place, "" for nothing."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by names like `val/mean_iu`."""

    def image(self, name: str, image: torch.Tensor, step: int) -> None:
        """A (3, H, W) picture, 0..1."""

    def close(self, state: str) -> None:
        """The run has ended: "done", "failed" or "interrupted", as in status.json."""


Maker = Callable[[Opening], Tracker]


def without_password(text: str) -> str:
    """`text` without the user and password of the addresses in it."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def pixels(image: torch.Tensor) -> Any:
    """(3, H, W) in 0..1 as a NumPy array (H, W, 3) uint8."""
    levels = (image.detach().float().cpu() * 255).round().clamp(0, 255)
    return levels.to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
