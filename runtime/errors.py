# SPDX-License-Identifier: Apache-2.0
"""Errors that are one line: what is wrong, where, and what to do; exit code 2 for wrong input."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class UserError(ValueError):
    """The user's input is wrong: shown as one line, exit code 2, never a traceback."""


class Diverged(RuntimeError):
    """Training finds no finite gradient any more: shown as one line, exit code 3, no traceback."""


def wrong_input(error: object) -> int:
    """Show one line on stdout and stderr (runx shows that late); returns the exit code, 2."""
    line = " ".join(f"error: {error}".split())
    for stream in (sys.stdout, sys.stderr):
        encoding = stream.encoding or "utf-8"  # what it cannot show is shown as \\xNN
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    return 2


def near(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A `; did you mean X?` for the known name nearest to `name`, or an empty string."""
    plain = {each.lower().lstrip("-"): each for each in known}  # "--" is no likeness of flags
    match = difflib.get_close_matches(name.lower().lstrip("-"), list(plain), n=1, cutoff=cutoff)
    return f"; did you mean {plain[match[0]]}?" if match else ""
