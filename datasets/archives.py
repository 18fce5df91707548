# SPDX-License-Identifier: Apache-2.0
"""Zip and tar files that are read where they are: an index of the members, and the bytes of one.

The index is compact, because ImageNet has 1.3 million members and every forked process keeps it.
Bytes are read by their position, so threads and forked processes share one handle without a lock.
"""

from __future__ import annotations

import errno
import io
import os
import posixpath
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from runtime.errors import UserError

ENDINGS = (".zip", ".tar")
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
OTHER_METHODS = {9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd"}
ENCRYPTED, UTF8 = 0x1, 0x800  # bits of the flags of a zip's member
UNIX = 3  # the system that wrote a member: its names are bytes, not code page 437
LOCAL_START, LOCAL_SIZE = b"PK\3\4", 30  # of the header before the bytes of a zip's member
NO_SUM = -1  # in place of the checksum, which a tar does not have
BLOCK = 512  # a tar ends with blocks of zeros
LEFT_OUT = "__MACOSX"  # where macOS keeps what no other system reads
COMPRESSED = (b"\x1f\x8b", b"BZh91AY&SY", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd
REPACK = "cannot be read in place; unpack it, or pack it as zip or tar"
WAY_OUT = "download it again, or move it out of the folder"


class Member(NamedTuple):
    """Where the bytes of a file are.

    offset: of its header in a zip, of the bytes themselves in a tar. packed, size: bytes in the
    archive, and unpacked. method: of compression. crc: of the unpacked bytes.
    """

    offset: int
    packed: int
    size: int
    method: int = STORED
    crc: int = NO_SUM


Rows = tuple[npt.NDArray[np.bytes_], npt.NDArray[np.int64]]  # names of files (N,), members (N, 5)


@dataclass(frozen=True)
class Folder:
    """What lies directly in a folder: names of folders and of files (N,) sorted; their members as
    rows (N, 5) int64."""

    folders: tuple[str, ...]
    files: npt.NDArray[np.bytes_]
    members: npt.NDArray[np.int64]

    def names(self) -> list[str]:
        """The names of the files."""
        return [os.fsdecode(name) for name in self.files.tolist()]

    def member(self, name: str) -> Member | None:
        """The file of that name."""
        wanted = os.fsencode(name)
        if len(wanted) > self.files.itemsize:
            return None
        at = int(self.files.searchsorted(np.bytes_(wanted)))
        if at == len(self.files) or self.files[at] != wanted:
            return None
        return Member(*self.members[at].tolist())


Tree = dict[str, Folder]  # path of a folder -> what lies in it
Keep = Callable[[Callable[[], bytes]], bytes]  # what was made before, else what is made now


class Archive:
    """The members of one file, below `folders` by their path; UserError for one that is damaged.

    keep: for the index of a tar, which is strewn over the whole file.
    """

    def __init__(self, path: str, keep: Keep = lambda make: make()) -> None:
        self.path, self.is_zip = path, path.lower().endswith(".zip")
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        self.stat = os.fstat(self._handle)
        if self.is_zip:
            self.folders = _tree(_zip_members(path))
        else:
            self.folders = _read_tree(keep(lambda: _tree_bytes(_tree(_whole_tar(path)))))

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            os.close(self._handle)

    def is_current(self) -> bool:
        """Whether the file at the path is still the one that was indexed."""
        now = os.stat(self.path)
        return _identity(now) == _identity(self.stat)

    def member(self, path: str) -> Member | None:
        """The file at a path inside of the archive."""
        folder, _, name = path.rpartition("/")
        found = self.folders.get(folder)
        return None if found is None else found.member(name)

    def top(self) -> str:
        """The one folder that holds everything; empty if there is more than one."""
        first = self.folders[""]
        return first.folders[0] if len(first.folders) == 1 and not len(first.files) else ""

    def read(self, member: Member) -> bytes:
        """The unpacked bytes of a file; OSError if they are not what was once packed."""
        start = member.offset
        if self.is_zip:
            header = self._bytes(start, LOCAL_SIZE)
            if not header.startswith(LOCAL_START):
                raise _damage("its header is not where the index says")
            lengths = header[26:]
            start += LOCAL_SIZE
            start += int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        data = self._bytes(start, member.packed)
        if member.method == DEFLATED:
            try:
                data = zlib.decompress(data, -zlib.MAX_WBITS, max(member.size, 1))
            except zlib.error as error:
                raise _damage(str(error)) from error
        if len(data) != member.size or (member.crc != NO_SUM and zlib.crc32(data) != member.crc):
            raise _damage("other bytes than its checksum says")
        return data

    def _bytes(self, start: int, length: int) -> bytes:
        """Some bytes of the file, all of them; the system may give them in parts."""
        data = os.pread(self._handle, length, start)
        while len(data) < length:
            more = os.pread(self._handle, length - len(data), start + len(data))
            if not more:
                raise _damage("the archive ends before it")
            data += more
        return data


def _identity(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _damage(text: str) -> OSError:
    return OSError(errno.EIO, f"its archive is damaged here: {text}")


def _tree(members: Iterable[tuple[str, Member | str | None]]) -> Tree:
    """The folders of an archive; of two files with one name the later one counts.

    members: path and member of each file, None for a folder, for a link the path that it leads to,
    which counts if there is a file. Hidden ones are left out.
    """
    files: dict[str, dict[bytes, Member]] = {"": {}}
    links: list[tuple[list[str], str]] = []
    for path, member in members:
        parts = _parts(path)
        if any(part.startswith(".") or part == LEFT_OUT for part in parts):
            continue
        if member is None:
            files.setdefault("/".join(parts), {})
        elif isinstance(member, str):
            links.append((parts, member))
        elif parts:
            files.setdefault("/".join(parts[:-1]), {})[os.fsencode(parts[-1])] = member
    for parts, target in links:
        *folders, name = _parts(target) or [""]
        found = files.get("/".join(folders), {}).get(os.fsencode(name))
        if found is not None and parts:
            files.setdefault("/".join(parts[:-1]), {})[os.fsencode(parts[-1])] = found
    return _nested({path: _rows(found) for path, found in files.items()})


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _rows(files: Mapping[bytes, Member]) -> Rows:
    names = sorted(files)
    rows = np.array([files[name] for name in names], np.int64)
    return np.array(names, np.bytes_), rows.reshape(len(names), len(Member._fields))


def _nested(files: Mapping[str, Rows]) -> Tree:
    """Folders with their files, and those above them."""
    below: dict[str, set[str]] = {}
    for path in files:
        while path:
            above, _, name = path.rpartition("/")
            below.setdefault(above, set()).add(name)
            path = above
    empty = _rows({})
    return {
        path: Folder(tuple(sorted(below.get(path, ()))), *files.get(path, empty))
        for path in {*files, *below}
    }


def _tree_bytes(tree: Tree) -> bytes:
    """A tree as one file, see `_read_tree`."""
    stream = io.BytesIO()
    np.savez(
        stream,
        paths=np.array([os.fsencode(path) for path in tree], np.bytes_),
        counts=np.array([len(folder.files) for folder in tree.values()]),
        files=np.concatenate([folder.files for folder in tree.values()]),
        members=np.concatenate([folder.members for folder in tree.values()]),
    )
    return stream.getvalue()


def _read_tree(content: bytes) -> Tree:
    with np.load(io.BytesIO(content)) as found:
        stops = np.cumsum(found["counts"])[:-1]
        parts = zip(np.split(found["files"], stops), np.split(found["members"], stops), strict=True)
        paths = [os.fsdecode(path) for path in found["paths"].tolist()]
        return _nested(dict(zip(paths, parts, strict=True)))


def _zip_members(path: str) -> Iterator[tuple[str, Member | None]]:
    """The members of a zip; UserError for one that is damaged or packed in another way."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, LookupError, NotImplementedError) as error:
        raise _unreadable(path, "zip", error) from error
    size = os.path.getsize(path)
    for info in found:
        if info.flag_bits & ENCRYPTED:
            raise UserError(f"{path}: {info.filename} is encrypted; unpack it with its password")
        if info.is_dir():
            yield _zip_name(info), None
            continue
        if info.compress_type not in (STORED, DEFLATED):
            kind = OTHER_METHODS.get(info.compress_type, f"method {info.compress_type}")
            raise UserError(
                f"{path}: {info.filename} is compressed by {kind}; members that are stored or "
                "deflated are read in place: unpack it"
            )
        if info.header_offset < 0 or info.header_offset + info.compress_size > size:
            raise _unreadable(path, "zip", ValueError(f"{info.filename} lies beyond its end"))
        yield (
            _zip_name(info),
            Member(
                info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC
            ),
        )


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name of a member as Unix unpacks it: without a mark of their encoding, bytes are kept."""
    if info.flag_bits & UTF8 or info.create_system != UNIX or info.filename.isascii():
        return info.filename
    return os.fsdecode(info.orig_filename.encode("cp437"))


def _whole_tar(path: str) -> Iterator[tuple[str, Member | str | None]]:
    """The members of a tar; UserError for one that is compressed or truncated."""
    try:
        with open(path, "rb") as stream:
            if stream.read(max(map(len, COMPRESSED))).startswith(COMPRESSED):
                raise UserError(f"{path}: compressed, so it {REPACK}")
            yield from _tar_members(stream, "", 0, os.fstat(stream.fileno()).st_size)
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise _unreadable(path, "tar", error) from error


def _tar_members(
    stream: BinaryIO, above: str, start: int, end: int
) -> Iterator[tuple[str, Member | str | None]]:
    """The files of a tar from `start` to `end` of a stream, by paths below `above`.

    A tar inside it stands for a folder of its name, as the classes of ImageNet do.
    """
    stream.seek(max(end - BLOCK, start))
    if any(stream.read(end - stream.tell())):
        raise EOFError(f"{above or 'it'} ends too early")
    stream.seek(start)
    with tarfile.TarFile(fileobj=stream) as tar:
        while (info := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # which would grow to gigabytes
            path, first = f"{above}{info.name}", info.offset_data
            if first + info.size > end:
                raise EOFError(f"{path} lies beyond its end")
            if info.isdir():
                yield path, None
            elif info.isreg() and info.name.lower().endswith(".tar"):
                yield from _tar_members(stream, f"{path[:-4]}/", first, first + info.size)
            elif info.isreg():
                yield path, Member(first, info.size, info.size)
            elif info.islnk():
                yield path, f"{above}{info.linkname}"
            elif info.issym():
                yield path, posixpath.normpath(f"{posixpath.dirname(path)}/{info.linkname}")


def _unreadable(path: str, kind: str, error: Exception) -> UserError:
    text = getattr(error, "strerror", None) or " ".join(str(error).split())
    return UserError(f"{path}: a damaged or truncated {kind} ({text}); {WAY_OUT}")
