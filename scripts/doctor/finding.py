# SPDX-License-Identifier: Apache-2.0
"""What a check of the machine finds: one line, and the way out where something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"
LEVELS = (OK, WARN, FAIL)  # the worst one last
MAX_TEXT = 300  # letters of what a library says


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`level`: one of LEVELS. `check`: its name. `way`: what would help, "" for nothing."""

    level: str
    check: str
    text: str
    way: str = ""

    def line(self) -> str:
        """As people read it."""
        way = f"; {self.way}" if self.way else ""
        return " ".join(f"{self.level:<5}{self.check:<14}{self.text}{way}".split("\n"))


Found = tuple[str, str] | tuple[str, str, str]  # level, text, way
Check = Callable[[], Iterable[Found]]


def findings(name: str, check: Check) -> Iterator[Finding]:
    """What `check` finds; a check that breaks is a finding, too, whatever it raises."""
    try:
        for level, text, *way in check():
            yield Finding(level=level, check=name, text=text, way=way[0] if way else "")
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:MAX_TEXT]
        yield Finding(level=FAIL, check=name, text=reason)


def worst(found: Iterable[Finding]) -> str:
    """The worst level; ok of nothing."""
    return max((each.level for each in found), key=LEVELS.index, default=OK)


def at_least(amount: float, warn: float, fail: float) -> str:
    """The level of an amount that should be at least `warn`, and must be at least `fail`."""
    return FAIL if amount < fail else WARN if amount < warn else OK
