# SPDX-License-Identifier: Apache-2.0
"""Files that appear complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomic(
    path: Path, content: bytes | Callable[[BinaryIO], object], *, sync: bool = False
) -> None:
    """Write to a hidden name beside `path`, then rename; missing folders are made.

    `content` is what to write, or writes it into the open file it is given. With `sync` the file
    is on the disk when this returns, not only in the cache of the system: for what must survive
    a power cut. Errors come as they are (OSError, and those of `content`); whatever happens,
    `path` then still holds its old content, and nothing else is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if sync:
        _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """The rename too is on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
