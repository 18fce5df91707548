# SPDX-License-Identifier: Apache-2.0
"""A file from a web address: resumed where it was cut, and checked before it gets its name.

    download("https://host/net.pth", Path("net.pth"), sha256="9f86d0...")

What has arrived lies in a hidden file beside the target, with what the server calls this version
of the file, so that two versions are never joined. Only a file of the announced length and of the
known hash is renamed to the target.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from runtime.errors import UserError
from runtime.files import FATAL
from runtime.progress import Progress

CHUNK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte
TRIES = 4  # in a row that bring nothing new
PAUSE = 1.0  # seconds before the first new try, then twice as many each time
AGENT = {"User-Agent": "hiseg", "Accept-Encoding": "identity"}
UNAVAILABLE = 500  # statuses from here on may pass
CUT = (http.client.HTTPException, ConnectionError, TimeoutError)


class Cut(Exception):
    """The connection ended before the file did; what came is kept."""


class Unreachable(UserError):
    """There is no way to the server: no network, no such host, or nobody listens there."""


@dataclass
class Part:
    """The hidden file that a download grows in, and the version of the file that it belongs to."""

    target: Path
    version: str = ""
    file: BinaryIO = field(init=False)

    @property
    def path(self) -> Path:
        """Beside the target: renaming works within one file system only."""
        mark = hashlib.sha256(os.fsencode(self.target.name)).hexdigest()[:12]
        return self.target.with_name(f".hiseg-{mark}.part")

    @property
    def note(self) -> Path:
        """Where the version stands."""
        return self.path.with_suffix(".version")

    def size(self) -> int:
        """Bytes that have arrived."""
        return os.fstat(self.file.fileno()).st_size

    def read_version(self) -> None:
        """The version that an earlier process noted; none where it noted nothing readable."""
        with contextlib.suppress(OSError, ValueError):
            noted = json.loads(self.note.read_text(encoding="utf-8"))
            self.version = noted if isinstance(noted, str) else ""

    def restart(self, version: str) -> None:
        """Drop what has arrived; the next bytes are of `version`."""
        self.file.truncate(0)
        self.version = version
        self.note.write_text(json.dumps(version), encoding="utf-8")

    def drop(self) -> None:
        """Remove both files: what has arrived is useless."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the whole file its name."""
        self.file.flush()
        os.fsync(self.file.fileno())
        os.replace(self.path, self.target)
        self.note.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(target: Path) -> Iterator[Part | None]:
    """The part of `target`, locked; None where another process has just finished the target."""
    part = Part(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with open(part.path, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # one process downloads, others wait for it
            if target.exists():
                if _is_same(file, part.path):
                    part.drop()
                yield None
                return
            if not _is_same(file, part.path):
                continue  # renamed or removed by the process that held the lock
            part.file = file
            part.read_version()
            yield part
            return


def _is_same(file: BinaryIO, path: Path) -> bool:
    """Whether `path` still names the open file."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def sha256_of(path: Path) -> str:
    """The hash of a file, as 64 small letters."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str, target: Path, *, sha256: str = "", progress: Progress | None = None) -> None:
    """Fetch `url` into `target`, unless it is there; missing folders are made.

    sha256: the hash or its beginning, empty where nobody knows it. progress: told the bytes done
    and in all. Raises UserError, one line: an address that does not answer or has no such file, a
    server that breaks off again and again (what came is kept, the next call goes on from there),
    a full disk, another length or hash than announced.
    """
    try:
        with _opened(target) as part:
            if part is None:
                return
            total = _fill(url, part, bool(sha256), progress)
            _check(url, part, total, sha256)
            part.finish()
    except OSError as error:
        raise UserError(_disk_line(url, target, error)) from error


def _fill(url: str, part: Part, hash_known: bool, progress: Progress | None) -> int | None:
    """Bring the part to its full length, over several connections if need be; the length."""
    idle, before = 0, part.size()
    while True:
        try:
            return _receive(url, part, hash_known, progress)
        except Cut as cut:
            arrived = part.size()
            idle = 0 if arrived > before else idle + 1
            before = arrived
            if idle >= TRIES:
                raise UserError(
                    f"{url}: {cut} after {arrived:,} bytes, {TRIES} times without progress; what "
                    f"came is kept, the same command goes on from there"
                ) from cut
            time.sleep(PAUSE * 2**idle if idle else 0)


def _receive(url: str, part: Part, hash_known: bool, progress: Progress | None) -> int | None:
    """One connection: ask for what is missing and write it; the length of the whole file.

    None where the server does not tell it. Raises Cut if the file did not end.
    """
    start = part.size()
    if start and not (part.version or hash_known):
        part.restart("")
        start = 0
    with _answer(url, _range(start, part.version), part) as answer:
        total, start = _begin(url, answer, part, start)
        if total is None and not hash_known:
            raise UserError(
                f"{url}: the server does not say how long the file is, so that a cut one would not "
                "be noticed; add its hash, URL#sha256=..., or download it by other means"
            )
        _room(url, part, total, start)
        _copy(answer, part, total, progress)
    if total is not None and part.size() < total:
        raise Cut("the connection was cut")
    return total


def _range(start: int, version: str) -> dict[str, str]:
    """Headers that ask for the rest of a file, of the same version where that is known."""
    if not start:
        return {}
    same = {"If-Range": version} if version else {}
    return {"Range": f"bytes={start}-", **same}


@contextlib.contextmanager
def _answer(url: str, headers: dict[str, str], part: Part) -> Iterator[http.client.HTTPResponse]:
    """The answer of the server; UserError for a refusal that lasts, Cut for one that may pass."""
    request = urllib.request.Request(url, headers={**AGENT, **headers})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code >= UNAVAILABLE or error.code == http.HTTPStatus.TOO_MANY_REQUESTS:
                raise Cut(f"the server answers {error.code} {error.reason}") from error
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and headers:
                part.restart("")  # it is of another version, or whole without its name
                raise Cut("the server has no more of this file") from error
            raise UserError(f"{url}: the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, ConnectionResetError | TimeoutError):
            raise Cut("the server does not answer") from error
        text = getattr(reason, "strerror", None) or str(reason)
        raise Unreachable(f"{url} cannot be reached ({text})") from error
    except (ValueError, http.client.InvalidURL) as error:
        raise UserError(f"{url} is no web address: {error}") from error
    except CUT as error:
        raise Cut("the server does not answer") from error
    with answer:
        yield answer


def _begin(
    url: str, answer: http.client.HTTPResponse, part: Part, start: int
) -> tuple[int | None, int]:
    """Length of the whole file, and where the body of `answer` starts in it."""
    kind = answer.headers.get_content_type()
    if kind == "text/html":
        raise UserError(f"{url} sends a web page, not a file; open it in a browser to see why")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise UserError(f"{url}: the server packs the file although it was told not to")
    length = answer.headers.get("Content-Length")
    count = int(length) if length and length.isdecimal() else None
    version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    if answer.status == http.HTTPStatus.PARTIAL_CONTENT:
        first, total = _content_range(answer)
        if first != start or (part.version and version and version != part.version):
            part.restart("")
            raise Cut("the server sends another part or version than asked for")
        return total, start
    part.restart("" if version.startswith("W/") else version)  # weak: bytes may differ
    return count, 0


def _content_range(answer: http.client.HTTPResponse) -> tuple[int, int | None]:
    """First byte and length of the file by `Content-Range: bytes 5-9/10`; -1 for nonsense."""
    text = answer.headers.get("Content-Range", "")
    place, _, total = text.removeprefix("bytes ").partition("/")
    first = place.partition("-")[0]
    return (
        int(first) if first.isdecimal() else -1,
        int(total) if total.isdecimal() else None,
    )


def _room(url: str, part: Part, total: int | None, start: int) -> None:
    """UserError before the first byte if the disk cannot take the rest."""
    free = shutil.disk_usage(part.target.parent).free
    if total is not None and total - start > free:
        raise UserError(
            f"{url} has {total - start:,} bytes to come, and the disk of {part.target.parent} has "
            f"room for {free:,}"
        )


def _copy(
    answer: http.client.HTTPResponse, part: Part, total: int | None, progress: Progress | None
) -> None:
    """The body of an answer, appended to the part; Cut if the connection fails."""
    done = part.size()
    while True:
        try:
            block = answer.read1(CHUNK)
        except CUT as error:
            raise Cut("the connection was cut") from error
        if not block:
            return
        part.file.write(block)
        part.file.flush()
        done += len(block)
        if progress is not None:
            progress(done, total)


def _check(url: str, part: Part, total: int | None, sha256: str) -> None:
    """UserError, and nothing kept, for a file of another length or hash than announced."""
    problem, size = "", part.size()
    if total is not None and size != total:
        problem = f"{size:,} bytes arrived, {total:,} were announced"
    elif sha256 and not (found := sha256_of(part.path)).startswith(sha256.lower()):
        problem = f"its sha256 is {found[: max(len(sha256), 12)]}, {sha256} wanted"
    if problem:
        part.drop()
        raise UserError(f"{url}: {problem}; what came was removed")


def _disk_line(url: str, target: Path, error: OSError) -> str:
    """Why a file cannot be written, in one line."""
    text = error.strerror or str(error)
    kept = ""
    if error.errno in FATAL and error.errno != errno.EROFS:
        kept = "; make room: what came is kept, the same command goes on from there"
    return f"{url}: {target} cannot be written: {text}{kept}"
