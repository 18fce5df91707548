# SPDX-License-Identifier: Apache-2.0
"""Checkpoint files: written whole or not at all, and read without running any code in them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from runtime.files import write_atomic

LAST, BEST = "last_checkpoint_ep", "best_checkpoint_ep"


class SaveError(ValueError):
    """A file could not be written; what was there before is intact."""


def save(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write(file)` write the file `path` to the disk, whole or not at all.

    Raises SaveError (disk full, no permission); `path` then still holds its old content.
    """
    try:
        write_atomic(path, write, sync=True)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        reason = " ".join(str(error).split())[:200]
        raise SaveError(f"{path} could not be written ({reason}); free some space") from error


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


def promote_best(last: Path) -> Path:
    """Make the last checkpoint the best one too; a hard link where the disk allows it."""
    best = last.with_name(last.name.replace(LAST, BEST))
    temporary = best.with_name(f".{best.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(last, temporary)
    except OSError:
        try:
            shutil.copyfile(last, temporary)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise SaveError(f"{best} could not be written ({error}); free some space") from error
    os.replace(temporary, best)
    for old in _files(last.parent, BEST):
        if old != best:
            old.unlink(missing_ok=True)
    return best


def newest(directory: Path) -> Path | None:
    """The checkpoint `--resume auto` takes, None when the directory holds none."""
    found = _files(directory, LAST)
    return found[-1] if found else None
