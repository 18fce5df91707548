# SPDX-License-Identifier: Apache-2.0
"""Where the files of a set are: in folders, in zip and tar files, or in both.

Archives in a data root stand for what they unpack to there. `mounted(root)` makes the root a
`Place`, whose paths answer `is_dir`, `is_file`, `open` and `stat` as if all were unpacked, so a set
lists its files without knowing. An item then names what is there, `ROOT/gtFine.zip/gtFine/x.png`, a
path that `open_file` reads in any process. A file that lies in a folder as well is read from there.
"""

from __future__ import annotations

import errno
import io
import os
import posixpath
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PosixPath
from typing import IO, Any, BinaryIO

from datasets.archives import ENDINGS, REPACK, Archive, Folder, Member
from datasets.copies import Copies
from runtime.errors import UserError
from runtime.files import stamp_of

NOT_IN_PLACE = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
IN_PATH = re.compile(r"\.(?:zip|tar)(?=/|$)", re.IGNORECASE)  # an archive named in a path

Inner = tuple[Archive, str]  # an archive, and a path in it


class Place(PosixPath):
    """A path that may lead into an archive, or beside the archives of a mounted root."""

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Of a member its own size, and everything else of its archive."""
        try:
            return super().stat(follow_symlinks=follow_symlinks)
        except (FileNotFoundError, NotADirectoryError):
            return _inner_stat(str(self))

    def exists(self, **options: Any) -> bool:
        """Whether there is a file or a folder."""
        return super().exists(**options) or self.is_file() or self.is_dir()

    def is_file(self, **options: Any) -> bool:
        """Whether there is a file."""
        return os.path.isfile(self) or _member(str(self)) is not None

    def is_dir(self, **options: Any) -> bool:
        """Whether there is a folder; an archive is one, too."""
        return os.path.isdir(self) or any(_folders(str(self)))

    def open(  # type: ignore[override]  # of a member: to read
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """The file, to read; OSError if there is none."""
        if mode not in ("r", "rt", "rb") or os.path.exists(self):
            return super().open(mode, buffering, encoding, errors, newline)
        data = _source(self)
        return data if mode == "rb" else io.TextIOWrapper(data, encoding, errors, newline)


@dataclass(frozen=True)
class Mount:
    """The archives of a root, each with pairs of a folder below the root and one inside of it that
    stands for it."""

    archives: tuple[tuple[Archive, tuple[tuple[str, str], ...]], ...]


_archives: dict[str, Archive] = {}
_mounts: dict[str, Mount] = {}
_copies: Copies | None = None


def at(path: Path) -> Path:
    """A path that may lead into an archive; UserError for an archive that is damaged."""
    return Place(path) if _named(str(path), renew=True) else path


def entered(path: Path) -> Path:
    """An archive as a folder: the outermost one in it that holds everything, if there is one."""
    return Place(path, _archive(str(path), renew=True).top())


def mounted(root: Path, *, beside: bool = True) -> Path:
    """A data root: a folder, in which archives may lie, or an archive, or a folder in one.

    What lies in the one outermost folder of an archive counts as lying outside of it, too, because
    archives are packed both ways; and if there is a folder of its name, as some programs unpack it
    to, then as lying in there. Without `beside`, archives in a folder are left alone. UserError
    for an archive that is damaged, or a file of a kind that cannot be read in place.
    """
    text = str(root if root.parts else root.absolute())  # paths below "." do not begin with it
    _mounts.pop(text, None)
    if text.lower().endswith(NOT_IN_PLACE) and os.path.isfile(root):
        raise UserError(f"{root}: {REPACK}")
    if (named := _named(text, renew=True)) is not None:
        found = [(named[0], _tops(*named, root))]
    elif beside and os.path.isdir(root):
        with os.scandir(root) as inside:
            paths = [f"{text}/{each.name}" for each in inside if _is_archive(each)]
        archives = [_archive(path, renew=True) for path in sorted(paths)]
        found = [(archive, _tops(archive, "", root)) for archive in archives]
    else:
        return root
    if not found:
        return root
    _mounts[text] = Mount(tuple(found))
    return Place(text)


def _is_archive(entry: os.DirEntry[str]) -> bool:
    is_named_so = entry.name.lower().endswith(ENDINGS) and not entry.name.startswith(".")
    return is_named_so and entry.is_file()


def _tops(archive: Archive, inner: str, root: Path) -> tuple[tuple[str, str], ...]:
    """Which folders of an archive stand for which ones below the root, the root being ""."""
    pairs = [("", inner)]
    if not inner and (top := archive.top()):
        pairs.append(("", top))
    name = os.path.splitext(os.path.basename(archive.path))[0]
    if os.path.isdir(root / name):
        pairs.append((name, inner))
    return tuple(pairs)


def _archive(path: str, renew: bool = False) -> Archive:
    """The archive at a path, indexed once; with `renew` again if it has changed."""
    if path not in _archives or (renew and not _archives[path].is_current()):
        _archives[path] = Archive(path, lambda make: _made(path, make))
    return _archives[path]


def _made(path: str, make: Callable[[], bytes]) -> bytes:
    return make() if _copies is None else _copies.made(path, stamp_of(Path(path)), make)


def _named(text: str, renew: bool = False) -> Inner | None:
    """The archive that a path itself leads into, and the rest of the path."""
    for found in IN_PATH.finditer(text):
        path = text[: found.end()]
        if (path in _archives and not renew) or os.path.isfile(path):
            return _archive(path, renew), _tidy(text[found.end() :])
    return None


def _tidy(path: str) -> str:
    inner = posixpath.normpath(path.strip("/"))
    return "" if inner == "." else inner


def _mount_of(text: str) -> str | None:
    """The mounted root that a path lies below."""
    roots = (root for root in _mounts if text == root or text.startswith(f"{root}/"))
    return max(roots, key=len, default=None)


def _inside(text: str) -> Iterator[Inner]:
    """Where in archives a path may be, the place that counts first."""
    if (named := _named(text)) is not None:
        yield named
    root = _mount_of(text) if _mounts else None
    if root is not None:
        below = _tidy(text[len(root) :])
        for archive, pairs in _mounts[root].archives:
            for outer, inner in pairs:
                if not outer or below == outer or below.startswith(f"{outer}/"):
                    yield archive, _tidy(f"{inner}/{below[len(outer) :]}")


def _member(text: str) -> tuple[Archive, Member, str] | None:
    """The member of an archive that a path stands for, with the path inside of the archive."""
    for archive, inner in _inside(text):
        if (member := archive.member(inner)) is not None:
            return archive, member, inner
    return None


def _folders(text: str) -> Iterator[Folder]:
    """The folders of archives that a path stands for."""
    for archive, inner in _inside(text):
        if (folder := archive.folders.get(inner)) is not None:
            yield folder


def _inner_stat(text: str) -> os.stat_result:
    if (found := _member(text)) is not None:
        own, mode, size = found[0].stat, stat.S_IFREG, found[1].size
    elif any(_folders(text)):
        archive, _ = next(_inside(text))
        own, mode, size = archive.stat, stat.S_IFDIR, 0
    else:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), text)
    numbers = [mode | 0o444, own.st_ino, own.st_dev, 1, own.st_uid, own.st_gid, size]
    times = {"st_mtime": own.st_mtime, "st_mtime_ns": own.st_mtime_ns}
    return os.stat_result([*numbers, *own[7:10]], times)


def located(path: Path) -> Path:
    """A path below a mounted root as that of the file itself, in a folder or in an archive."""
    text = str(path)
    if next(_inside(text), None) is None or os.path.exists(text):
        return path
    found = _member(text)
    return path if found is None else Place(f"{found[0].path}/{found[2]}")


def unpacked(path: Path) -> Path:
    """Where a file would be, had its archives been unpacked in their own folders."""
    text, named = str(path), _named(str(path))
    return Path(os.path.dirname(named[0].path), named[1]) if named else Path(text)


def scan(folder: Path | str) -> tuple[list[str], list[str]]:
    """Names of the sub-folders and of the files of `folder`, sorted, without the hidden ones.

    OSError for a folder that cannot be read.
    """
    folders: set[str] = set()
    files: set[str] = set()
    packed = list(_folders(str(folder)))
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if not entry.name.startswith("."):
                    (folders if is_folder(entry) else files).add(entry.name)
    except (FileNotFoundError, NotADirectoryError):
        if not packed:
            raise
    for each in packed:
        folders.update(each.folders)
        files.update(each.names())
    return sorted(folders), sorted(files - folders)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a circular link, like a dead one, is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def archives_of(root: Path) -> list[str]:
    """Names of the archives that a data root is read from."""
    mount = _mounts.get(str(root))
    return [] if mount is None else [os.path.basename(a.path) for a, _ in mount.archives]


def packed_otherwise(root: Path) -> list[str]:
    """Names of the files in a data root that would have to be unpacked, sorted."""
    try:
        with os.scandir(root) as inside:
            names = [each.name for each in inside if each.name.lower().endswith(NOT_IN_PLACE)]
    except OSError:
        return []
    return sorted(names)


def doubled(paths: Iterable[Path], root: Path) -> list[str]:
    """One line for each place whose files below `root` are not read, because another has them."""
    mount = _mounts.get(str(root))
    count: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for path in paths if mount is not None else ():
        named = _named(str(path))
        used = str(root) if named is None else named[0].path
        for archive, inner in _inside(str(path if named is None else root / named[1])):
            if archive.path != used and archive.member(inner) is not None:
                pair = used, archive.path
                count[pair] += 1
                first.setdefault(pair, path.name)
    return [
        f"{number} {'file lies' if number == 1 else 'files lie'} in {used} and in {other}, such as "
        f"{first[used, other]}: the ones in {used} are read"
        for (used, other), number in count.items()
    ]


def keep_copies(copies: Copies | None) -> None:
    """Keep copies of what is read from now on; None ends it."""
    global _copies
    _copies = copies


def kept_copies() -> Copies | None:
    """Where copies are kept, to tell another process."""
    return _copies


def open_file(path: Path) -> BinaryIO:
    """A file to read; OSError for a pipe or the like, which would block forever."""
    if _copies is not None:
        copy = _copies.find(str(path), stamp_of(Place(path)))
        if copy is not None:
            return io.BytesIO(copy)
    return _source(path)


def read_file(path: Path) -> bytes:
    """All of a file; OSError if it cannot be read."""
    if _copies is not None:
        return _copies.read(str(path), stamp_of(Place(path)), lambda: _whole(path))
    return _whole(path)


def _whole(path: Path) -> bytes:
    with _source(path) as stream:
        return stream.read()


def _source(path: Path) -> BinaryIO:
    """A file where it is, in a folder or in an archive."""
    text = str(path)
    if _named(text):
        return _unpacked_bytes(text)
    try:
        stream = open(path, "rb", opener=_open_at_once)  # noqa: SIM115, the caller closes it
    except FileNotFoundError:
        if _mount_of(text) is None:
            raise
        return _unpacked_bytes(text)
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(errno.EINVAL, "a pipe or device, not a file")
    return stream


def _unpacked_bytes(text: str) -> BinaryIO:
    if (found := _member(text)) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), text)
    return io.BytesIO(found[0].read(found[1]))


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
