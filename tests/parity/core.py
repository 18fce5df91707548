# SPDX-License-Identifier: Apache-2.0
"""Recorded fixtures, comparison with tolerance, and the run over a folder of them.

A check is a function from a Fixture to rows; every `<system>_<area>.py` beside this file offers
`CHECKS`, a dictionary from fixture name or glob to check.
"""

from __future__ import annotations

import fnmatch
import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
FIXTURES = HERE / "fixtures"


@dataclass(frozen=True)
class Fixture:
    """One recorded case: the JSON header and the arrays of the file beside it, in `folder`."""

    name: str
    header: dict[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    folder: Path = FIXTURES


@dataclass(frozen=True)
class Row:
    """The outcome of one comparison: largest differences, absolute and relative."""

    name: str
    max_abs: float
    max_rel: float
    ok: bool
    note: str = ""


def failure(name: str, note: str) -> Row:
    """A row for what could not be compared at all."""
    return Row(name, float("nan"), float("nan"), False, note)


def compare(name: str, got: Any, want: Any, atol: float = 0.0, rtol: float = 0.0) -> Row:
    """Pass when |got - want| <= atol + rtol * |want| everywhere; NaN equals NaN."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        return failure(name, f"shape {got.shape}, recorded {want.shape}")
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid="ignore"):  # infinities; NaN or infinity apart compares false
        difference = np.where(same, 0.0, np.abs(got - want))
        ok = bool(np.all(same | (difference <= atol + rtol * np.abs(want))))
        relative = np.where(same, 0.0, difference / np.maximum(np.abs(want), 1e-12))
    return Row(name, float(difference.max(initial=0)), float(relative.max(initial=0)), ok)


def load_fixture(path: Path) -> Fixture:
    """The fixture of a `.json` file, with the `.npz` beside it if there is one."""
    header = json.loads(path.read_text())
    arrays_path = path.with_suffix("").with_name(path.name.removesuffix(".json") + ".npz")
    arrays = {}
    if arrays_path.exists():
        with np.load(arrays_path) as stored:
            arrays = {key: stored[key] for key in stored.files}
    return Fixture(path.name.removesuffix(".json"), header, arrays, path.parent)


def fixture_names(folder: Path) -> list[str]:
    """Names of all fixtures in a folder, sorted; an array file without header counts too."""
    files = [path.name for path in folder.iterdir() if path.suffix in (".json", ".npz")]
    return sorted({name.rsplit(".", 1)[0] for name in files})


def checks_of(system: str) -> dict[str, Callable[[Fixture], list[Row]]]:
    """All checks of a system (`hmsa`, `hanet`, ...), from every file of its name."""
    found: dict[str, Callable[[Fixture], list[Row]]] = {}
    for path in sorted(HERE.glob(f"{system}_*.py")):
        module = importlib.import_module(f"tests.parity.{path.stem}")
        found.update(module.CHECKS)
    return found


def find_check(
    name: str, checks: Mapping[str, Callable[[Fixture], list[Row]]]
) -> Callable[[Fixture], list[Row]] | None:
    """The check of that very name, else of the longest glob that matches."""
    globs = sorted((key for key in checks if fnmatch.fnmatchcase(name, key)), key=len)
    key = name if name in checks else next(reversed(globs), None)
    return None if key is None else checks[key]


def run_fixture(
    folder: Path, name: str, checks: Mapping[str, Callable[[Fixture], list[Row]]]
) -> list[Row]:
    """The rows of one fixture; never empty, never an exception."""
    check = find_check(name, checks)
    if check is None:
        return [failure(name, "no check knows this fixture")]
    try:
        rows = check(load_fixture(folder / f"{name}.json"))
    except Exception as error:  # whatever a check raises is a failure of this one fixture
        return [failure(name, f"{type(error).__name__}: {error}")]
    return rows or [failure(name, "the check compared nothing")]


def run_folder(folder: Path) -> Iterator[tuple[str, list[Row]]]:
    """Each fixture of `folder`, whose own name is the system, with its rows."""
    checks = checks_of(folder.resolve().name)
    for name in fixture_names(folder):
        yield name, run_fixture(folder, name, checks)
