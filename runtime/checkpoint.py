# SPDX-License-Identifier: Apache-2.0
"""Checkpoint files: written whole or not at all, and read without running any code in them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from runtime.files import partial_name, write_atomic

MOST_AT_ONCE = 3  # the last one, the best one, and one that is being written
LAST, BEST = "last_checkpoint_ep", "best_checkpoint_ep"


class SaveError(ValueError):
    """A file could not be written; its old content is intact."""


class _Recording:
    """Wraps `file` for writers that replace its errors by their own, as torch.save does."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Like `file.write`; remembers its error."""
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Like `file.flush`; remembers its error."""
        try:
            self._file.flush()
        except OSError as error:
            self.error = error
            raise


def save(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write(file)` write the file `path` to the disk, whole or not at all.

    Raises SaveError (disk full, no permission); `path` then still holds its old content. Other
    errors of `write` pass through.
    """
    recording: _Recording | None = None

    def recorded(file: BinaryIO) -> None:
        nonlocal recording
        recording = _Recording(file)
        write(cast(BinaryIO, recording))

    try:
        write_atomic(path, recorded, sync=True)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else None
        if recording is not None and cause is None:
            cause = recording.error
        if cause is None:
            raise
        raise SaveError(
            f"{path} could not be written ({cause.strerror}); free some space"
        ) from error


def _epoch_of(path: Path) -> int:
    match = re.search(r"_ep(\d+)\.pth$", path.name)
    return int(match.group(1)) if match else -1


def _files(directory: Path, prefix: str) -> list[Path]:
    """Checkpoints of one kind, oldest first."""
    found = [path for path in directory.glob(f"{prefix}*.pth") if _epoch_of(path) >= 0]
    return sorted(found, key=lambda path: (_epoch_of(path), path.stat().st_mtime_ns))


def save_last(directory: Path, state: dict[str, Any], epoch: int) -> Path:
    """Write `last_checkpoint_ep{epoch}.pth`, then remove the older ones."""
    path = directory / f"{LAST}{epoch}.pth"
    save(path, lambda file: torch.save(state, file))
    for old in _files(directory, LAST):
        if old != path:
            old.unlink(missing_ok=True)
    return path


def save_best(directory: Path, state: dict[str, Any], epoch: int) -> Path:
    """Write `best_checkpoint_ep{epoch}.pth`, then remove the older ones.

    It replaces the last checkpoint of the same name too, as a hard link if the file system has
    them: `state` is the same state, which now knows its score.
    """
    path = directory / f"{BEST}{epoch}.pth"
    save(path, lambda file: torch.save(state, file))
    for old in _files(directory, BEST):
        if old != path:
            old.unlink(missing_ok=True)
    last = directory / f"{LAST}{epoch}.pth"
    if last.exists():
        link = partial_name(last)
        with contextlib.suppress(OSError):
            os.link(path, link)
            os.replace(link, last)
    return path


def bytes_held(directory: Path) -> int:
    """Bytes of the checkpoints that further ones will replace."""
    found = [path.stat() for prefix in (LAST, BEST) for path in _files(directory, prefix)]
    return sum({stat.st_ino: stat.st_size for stat in found}.values())  # two names of one file


def newest(directory: Path) -> Path | None:
    """The checkpoint that `--resume auto` takes, None if the directory holds none."""
    found = _files(directory, LAST)
    return found[-1] if found else None
