# SPDX-License-Identifier: Apache-2.0
"""What became of every tensor of a file, and of every tensor of the network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runtime.limits import counted

NAMES_SHOWN = 3


def shortened(names: Iterable[str]) -> str:
    """The first few names and how many more there are."""
    listed = list(names)
    more = len(listed) - NAMES_SHOWN
    return ", ".join(listed[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """Names by what happened to them.

    loaded, missing: names of this network. dropped, unexpected: names of the file; `dropped` has
    no place in the network and is meant to, or was allowed to be left out. mismatched: name with
    both shapes. missing and mismatched hold only allowed names once loading has succeeded.
    Of an ImageNet file: fresh, names of the trunk that it rightly lacks. filled: those that got
    copies of other weights of the trunk, or zeros where the other program has no such bias.
    note: what the file says about itself.
    """

    layout: str
    loaded: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    filled: tuple[str, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        parts = [f"layout {self.layout}: {counted(len(self.loaded), 'tensor')} loaded"]
        for what in ("dropped", "missing", "unexpected", "mismatched", "fresh", "filled"):
            names = getattr(self, what)
            if names:
                parts.append(f"{len(names)} {what} ({shortened(names)})")
        return ", ".join(parts) + (f"; {self.note}" if self.note else "")
