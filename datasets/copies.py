# SPDX-License-Identifier: Apache-2.0
"""Copies of files from a slow disk in a local folder, the least recently used of which leave first.

Copies are the bytes as they were read: an image decoded takes three to thirty times the space, so
that far fewer would fit, and it is the disk that is waited for. Any number of processes may share a
folder, and any of them may be killed: a copy is renamed into place when it is whole, and room for
it is taken, under a lock, before it is written. So what is booked is never less than what lies
there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import shutil
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from runtime.files import Stamp

LEDGER = ".used"  # bytes that are booked, in DIGITS digits; its lock is the lock of the folder
DIGITS = 20
SUM_BYTES = 4  # after the bytes of a file: their checksum, which a power cut may disprove
BLOCK = 4096  # in which disks give out space
LEFT_FULL = 0.9  # how full the folder is after the least recently used copies have left
GB = 10**9
FREE_SHARE, FREE_BYTES = 0.05, 2 * GB  # of the disk, the smaller of which is left to checkpoints
FRESH_SECONDS = 60  # a copy that was used more recently is not marked again
STALE_SECONDS = 3600  # after which a half-written copy is that of a killed process
TRIES, WAIT_SECONDS = 40, 0.005  # for the lock, after which a file is not kept this time


class Copies:
    """A folder of copies that takes at most `limit` bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._is_off = mmap.mmap(-1, 1)  # shared with the processes that are forked from this one

    def __reduce__(self) -> tuple[type[Copies], tuple[Path, int]]:
        return Copies, (self.folder, self.limit)

    def prepare(self) -> None:
        """Make the folder and bring it below the limit; OSError if that cannot be done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(self.folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.folder))
        self._book(0, "")

    def read(self, path: str, stamp: Stamp, source: Callable[[], bytes]) -> bytes:
        """The bytes of a file of that size and time: of its copy, else of `source`, then kept."""
        place = self._place(path, stamp)
        data = _verified(place)
        if data is None:
            data = source()
            if len(data) == stamp[0]:  # else it changes while it is read
                self._keep(place, data)
        return data

    def made(self, path: str, stamp: Stamp, make: Callable[[], bytes]) -> bytes:
        """What `make` makes of a file of that size and time, of which a copy is kept, too."""
        place = self._place(f"{path}\0made", stamp)
        data = _verified(place)
        if data is None:
            data = make()
            self._keep(place, data)
        return data

    def find(self, path: str, stamp: Stamp) -> bytes | None:
        """The bytes of the copy; None without one."""
        return _verified(self._place(path, stamp))

    def _place(self, path: str, stamp: Stamp) -> str:
        text = f"{os.path.abspath(path)}\0{stamp[0]}\0{stamp[1]}"
        name = hashlib.blake2b(os.fsencode(text), digest_size=16).hexdigest()
        return f"{self.folder}/{name[:2]}/{name[2:]}"

    def _keep(self, place: str, data: bytes) -> None:
        """Write a copy; what cannot be written ends the keeping of further ones."""
        if self._is_off[0]:
            return
        partial = f"{os.path.dirname(place)}/.{os.getpid()}-{threading.get_ident()}"
        try:
            if not self._book(len(data) + SUM_BYTES, partial):
                return
            try:
                with open(partial, "r+b") as stream:
                    stream.write(data)
                    stream.write(zlib.crc32(data).to_bytes(SUM_BYTES, "little"))
                os.replace(partial, place)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(partial)
                raise
        except OSError as error:
            self.stop(error)

    def stop(self, error: OSError) -> None:
        """Keep no further copies, and say so once; those that are there go on being read."""
        if not self._is_off[0]:
            self._is_off[0] = 1
            print(
                f"warning: --cache_dir {self.folder}: {error.strerror or error}: files are read "
                "where they are from now on",
                file=sys.stderr,
                flush=True,
            )

    def _book(self, size: int, partial: str) -> bool:
        """Take room for a file of so many bytes, and let it lie there under the name `partial`, so
        that others count it; False if there is no room now. OSError for a full disk."""
        needed = _on_disk(size)
        if needed > self.limit:
            return False
        disk = shutil.disk_usage(self.folder)
        if disk.free - needed < min(FREE_SHARE * disk.total, FREE_BYTES):
            raise OSError(errno.ENOSPC, "its disk is nearly full")
        handle = os.open(self.folder / LEDGER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if not _locked(handle):
                return False
            digits = os.pread(handle, DIGITS, 0)
            used = int(digits) if len(digits) == DIGITS and digits.isdigit() else None
            if used is None or used + needed > self.limit:
                used = self._make_room(int(LEFT_FULL * self.limit) - needed, self.limit - needed)
            if used + needed > self.limit:
                return False
            os.pwrite(handle, f"{used + needed:0{DIGITS}}".encode(), 0)
            if partial:
                os.makedirs(os.path.dirname(partial), exist_ok=True)
                with open(partial, "wb") as stream:
                    stream.truncate(size)
            return True
        finally:
            os.close(handle)

    def _make_room(self, goal: int, limit: int) -> int:
        """Bytes that lie in the folder; if above `limit`, after old copies have left to `goal`."""
        found = sorted(self._all(), key=lambda each: each[0])
        used = sum(size for _, size, _ in found)
        if used <= limit:
            return used
        for _, size, path in found:
            if used <= goal:
                break
            if os.path.basename(path).startswith("."):
                continue  # somebody is writing it
            with contextlib.suppress(OSError):
                os.unlink(path)
                used -= size
        return used

    def _all(self) -> Iterator[tuple[float, int, str]]:
        """Time of last use, size on disk and path of every copy; what was never finished goes."""
        for part in os.scandir(self.folder):
            if len(part.name) != 2 or not part.is_dir():
                continue
            for entry in os.scandir(part.path):
                try:
                    stat = entry.stat()
                    is_stale = time.time() - stat.st_mtime > STALE_SECONDS
                    if entry.name.startswith(".") and is_stale:
                        os.unlink(entry.path)
                    else:
                        yield stat.st_mtime, _on_disk(stat.st_size), entry.path
                except OSError:  # it has just been renamed, or another process removed it
                    continue


def _on_disk(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _locked(handle: int) -> bool:
    """Lock a file until it is closed; False if another process does not let go of it."""
    for _ in range(TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(WAIT_SECONDS)
    return False


def _verified(place: str) -> bytes | None:
    """The bytes of a copy, which counts as used now; None without one that is whole."""
    try:
        with open(place, "rb") as stream:
            stat = os.fstat(stream.fileno())
            data = stream.read(max(stat.st_size - SUM_BYTES, 0))
            if stream.read() != zlib.crc32(data).to_bytes(SUM_BYTES, "little"):
                return None
    except OSError:
        return None
    if time.time() - stat.st_mtime > FRESH_SECONDS:
        with contextlib.suppress(OSError):
            os.utime(place)
    return data
