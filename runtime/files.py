# SPDX-License-Identifier: Apache-2.0
"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from runtime.names import HASH_LETTERS

# What stops all further files too: a full disk or quota, a folder that cannot be written.
FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)

# Names by partial_name and by a run that tries a directory; they hold the id of the process.
PARTIAL = re.compile(r"^\.probe(\d+)$|^\..+\.(\d+)\.(?:partial|tmp)$")


Stamp = tuple[int, int]  # size in bytes, time of the last change in ns


def stamp_of(path: Path) -> Stamp:
    """Size and time of a file, which tell whether it is another one now; OSError without it."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def stamp_if_there(path: Path) -> Stamp | None:
    """The same, None for a file that is not there: whoever reads it says so."""
    try:
        return stamp_of(path)
    except OSError:
        return None


def partial_name(path: Path) -> Path:
    """The hidden name beside `path` under which this process writes it; see `leftovers`.

    A hash stands for the name, which may already have the greatest possible length.
    """
    mark = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:HASH_LETTERS]
    return path.with_name(f".hiseg-{mark}.{os.getpid()}.partial")


def leftovers(directory: Path) -> list[Path]:
    """Half-written files directly in `directory` whose process is gone, or had this one's id.

    Only processes of this machine are seen: call it before any process of a run writes there.
    """
    found = []
    for path in directory.glob(".*"):
        match = PARTIAL.match(path.name)
        pid = int(match[1] or match[2]) if match else None
        if pid is not None and (pid == os.getpid() or not is_alive(pid)):
            found.append(path)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process of this machine has that id."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


def is_fatal(error: BaseException) -> bool:
    """Whether `error` concerns the whole disk, so that no other file can be written either."""
    return isinstance(error, OSError) and error.errno in FATAL


def write_atomic(
    path: Path, content: bytes | Callable[[BinaryIO], object], *, sync: bool = False
) -> None:
    """Write to a hidden name beside `path`, then rename; missing folders are made.

    `content` is what to write, or a function that writes it into the open file it is given. With
    `sync` the file is on the disk when this returns, not only in the cache of the system: for what
    must survive a power cut. Errors pass through (OSError, and those of `content`); whatever
    happens, `path` then still holds its old content, and nothing else is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_name(path)
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
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(partial)):
            # a full disk names no file, and users do not know the hidden one
            error.filename = str(path)
        raise
    if sync:
        _sync_directory(path.parent)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write into under a hidden name beside `path`, which becomes `path` in the end.

    Missing folders above it are made; `path` may be an empty folder. Errors pass through, and leave
    nothing.
    """
    partial = partial_name(path)
    partial.mkdir(parents=True)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_mapping(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where it is missing or damaged, or holds another kind."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _sync_directory(directory: Path) -> None:
    """Bring the rename to the disk, too."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
