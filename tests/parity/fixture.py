# SPDX-License-Identifier: Apache-2.0
"""Recorded fixtures: a JSON header, the arrays beside it, and a note of what was read of both.

`Record` and `Arrays` hand out the entries of a fixture and remember each one. What is left over
at the end was compared by nothing, and a fixture with such an entry does not pass.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
FIXTURES = HERE / "fixtures"
UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError, MemoryError)


class CannotRun(Exception):  # noqa: N818, it is a verdict
    """A fixture that no check can judge; the message names the file, key or setting."""


class MissingEntry(KeyError):  # noqa: N818, as KeyError
    """A key or array that a check needs and the fixture lacks."""

    def __str__(self) -> str:
        return str(self.args[0])


def join(path: str, key: object) -> str:
    """`cases.0` and `loss` -> `cases.0.loss`."""
    return f"{path}.{key}" if path else str(key)


def is_leaf(value: Any) -> bool:
    """Whether an entry is one value: a scalar, or a list without any object inside."""
    if isinstance(value, list):
        return all(is_leaf(item) for item in value)
    return not isinstance(value, dict)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a JSON value with its path; an empty object is a leaf of its own."""
    if is_leaf(value):
        yield path, value
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield from leaves(item, join(path, key))


class Record(Mapping[str, Any]):
    """A JSON object; reading one of its leaves adds the leaf's path to `used`."""

    def __init__(self, data: dict[str, Any], used: set[str], path: str = "") -> None:
        self._data, self._used, self._path = data, used, path

    def __getitem__(self, key: str) -> Any:
        if key not in self._data:
            raise MissingEntry(f"the key {join(self._path, key)} is missing")
        return self._wrap(self._data[key], join(self._path, key))

    def _wrap(self, value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return Record(value, self._used, path)
        if is_leaf(value):
            self._used.add(path)
            return value
        return [self._wrap(item, join(path, number)) for number, item in enumerate(value)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def ignore(self, *keys: str) -> None:
        """Mark entries as read that are known to be settled another way."""
        for key in keys:
            if key in self._data:
                self._used.update(path for path, _ in leaves(self._data[key], self._at(key)))

    def _at(self, key: str) -> str:
        return join(self._path, key)

    def plain(self) -> dict[str, Any]:
        """All entries as ordinary objects, every leaf marked as read."""
        self._used.update(path for path, _ in leaves(self._data, self._path))
        return self._data

    def peek(self) -> dict[str, Any]:
        """The same without marking anything, for what only chooses a check."""
        return self._data


class Arrays(Mapping[str, np.ndarray]):
    """The arrays of a fixture by name; reading one adds its name to `used`."""

    def __init__(self, data: Mapping[str, np.ndarray], file: str = "") -> None:
        self._data, self.used, self.file = data, set[str](), file

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._data:
            where = f" in {self.file}" if self.file else ""
            raise MissingEntry(f"the array {name} is missing{where}")
        self.used.add(name)
        return self._data[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __contains__(self, name: object) -> bool:
        return name in self._data


@dataclass(frozen=True)
class Fixture:
    """One recorded case: the JSON header and the arrays of the file beside it, in `folder`."""

    name: str
    header: Record
    arrays: Arrays
    folder: Path = FIXTURES
    used: set[str] = field(default_factory=set)

    @classmethod
    def of(
        cls,
        name: str,
        header: dict[str, Any],
        arrays: Mapping[str, np.ndarray] | None = None,
        folder: Path = FIXTURES,
    ) -> Fixture:
        """A fixture of plain values, nothing of which has been read."""
        used: set[str] = set()
        stored = Arrays(arrays or {}, f"{name}.npz")
        return cls(name, Record(header, used), stored, folder, used)

    @property
    def cases(self) -> list[Any]:
        """The entries of `cases`."""
        found: list[Any] = self.header["cases"]
        return found


def first_case(fixture: Fixture, key: str = "cases") -> dict[str, Any]:
    """The first object of a list of cases, unmarked; empty if there is none."""
    cases = fixture.header.peek().get(key)
    first = cases[0] if isinstance(cases, list) and cases else {}
    return first if isinstance(first, dict) else {}


def load_fixture(path: Path) -> Fixture:
    """The fixture of a `.json` file, with the `.npz` of the same name if there is one.

    Raises CannotRun, in one line, for a file that cannot be read.
    """
    name = path.name.removesuffix(".json")
    if not path.is_file():
        raise CannotRun(f"{path.name} is missing, {name}.npz has no header")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CannotRun(f"{path.name} cannot be read: {error}") from error
    if not isinstance(header, dict):
        raise CannotRun(f"{path.name} holds {type(header).__name__}, an object is wanted")
    return Fixture.of(name, header, _load_arrays(path.with_name(f"{name}.npz")), path.parent)


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    try:
        with path.open("rb") as file, np.load(file) as stored:  # it may leave a cut file open
            found = {key: stored[key] for key in stored.files}
    except UNREADABLE as error:
        raise CannotRun(f"{path.name} cannot be read: {error}") from error
    for key, array in found.items():
        if array.dtype.kind not in "biuf":
            raise CannotRun(f"{path.name}: array {key} holds {array.dtype}, no numbers")
    return found


def fixture_names(folder: Path) -> list[str]:
    """Names of all fixtures in a folder, sorted; an array file without header counts too."""
    files = [path.name for path in folder.iterdir() if path.suffix in (".json", ".npz")]
    return sorted({name.rsplit(".", 1)[0] for name in files})


def find_fixture(folder: Path, arch: str) -> Fixture:
    """The network fixture of `arch` beside another one, or among those of this project.

    Found by what it says of itself, so its file may have any name. Raises CannotRun.
    """
    folders = [folder, *sorted(path for path in FIXTURES.iterdir() if path.is_dir())]
    for path in (path for each in folders for path in sorted(each.glob("*.json"))):
        text = path.read_text(encoding="utf-8", errors="replace")
        if f'"{arch}"' not in text or '"manifest"' not in text:
            continue
        found = load_fixture(path)
        if found.header.peek().get("arch") == arch and "manifest" in found.header:
            return found
    raise CannotRun(f"arch: the fixture of the network {arch}, which holds its keys, is not there")
