# SPDX-License-Identifier: Apache-2.0
"""Sizes and times of files, by which a set is recognised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from datasets.headers import DataError
from runtime.files import Stamp, stamp_of

StampOf = Callable[[Path], Stamp]


def stamp(path: Path) -> Stamp:
    """Size in bytes and time of a file; DataError if it does not exist."""
    try:
        return stamp_of(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


class Stamps:
    """Sizes and times of files; the system is asked once per file."""

    def __init__(self) -> None:
        self._known: dict[Path, Stamp] = {}

    def __call__(self, path: Path) -> Stamp:
        """Size and time of a file; DataError if it does not exist."""
        if path not in self._known:
            self._known[path] = stamp(path)
        return self._known[path]
