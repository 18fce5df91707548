# SPDX-License-Identifier: Apache-2.0
"""What values can be: names that files can have, texts that fit into a line."""

from __future__ import annotations

import os

MAX_NAME, MAX_PATH = 255, 4095  # bytes of one part of a path, and of all of it
MAX_REASON = 160  # letters of what a library says
MAX_SHOWN = 80  # letters of a wrong value in an error line


def one_line(text: str) -> str:
    """What another program says, as a part of an error line."""
    return " ".join(text.split())[:MAX_REASON]


def brief(value: object) -> str:
    """A value as an error line shows it, cut to fit on the line."""
    text = str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 image`, `2 images`, `0 classes`."""
    ending = "" if number == 1 else "es" if noun.endswith(("s", "ch")) else "s"
    return f"{number} {noun}{ending}"


def name_problem(path: str) -> str | None:
    """Why no file system can hold `path`; None if one can."""
    longest = max(len(os.fsencode(part)) for part in path.split("/"))
    if "\0" in path:
        return "no file has such a name"
    if longest > MAX_NAME:
        return f"a name of {longest} bytes; file systems take {MAX_NAME}"
    if len(os.fsencode(path)) > MAX_PATH:
        return f"a path of {len(os.fsencode(path))} bytes; at most {MAX_PATH} work"
    return None
