# SPDX-License-Identifier: Apache-2.0
"""Comparison with tolerance, the choice of a check by content, and the verdict of a fixture.

A check is chosen by what a fixture holds, never by its name: every module named in `MODULES`
offers `CHECKS`, and exactly one check of them all must recognise the fixture.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from config import UserError
from tests.parity.fixture import CannotRun, Fixture, MissingEntry, leaves, load_fixture

MODULES = (
    *("hmsa_networks", "hmsa_losses", "hmsa_total", "hmsa_training", "hmsa_scores"),
    *("hmsa_autolabel", "hmsa_dumps", "hmsa_evaluation", "hmsa_labels"),
    *("hmsa_transforms", "hmsa_sampling"),
    *("hanet_networks", "hanet_blocks", "hanet_evaluation", "hanet_functions"),
    *("hila_attention", "hila_metrics", "hila_networks", "hila_gradients", "hila_unit"),
    *("hrvit_networks", "mmseg_data", "mmseg_evaluation", "mmseg_training", "mmseg_layouts"),
    *("unept_boundary", "unept_networks", "unept_parts", "unept_gradients"),
)
WARN_SHARE = 0.5  # of the tolerance; a right implementation is usually within a tenth
NAMED = 12  # entries that a verdict names
SENTENCE = 3  # words that make an entry a remark

# Entries of any fixture that are no answer, by the last part of their path.
REMARKS = {
    "what": "says in words what was recorded",
    "note": "a remark",
    "notes": "remarks",
    "comment": "a remark",
    "reference": "names the published program",
    "versions": "of the libraries at the time",
    "noise": "of float32; the tolerance was made from it",
    "float32_noise": "of float32; the tolerance was made from it",
    "noise_float32_vs_64": "of float32; the tolerance was made from it",
    "atol": "a tolerance",
    "rtol": "a tolerance",
    "loss_rtol": "a tolerance",
    "grad_atol": "a tolerance",
    "grad_rtol": "a tolerance",
    "gradient_atol": "a tolerance",
    "gradient_rtol": "a tolerance",
}


@dataclass(frozen=True)
class Row:
    """The outcome of one comparison.

    max_abs, max_rel: largest differences. share: the largest part of the tolerance that was used,
    0 where nothing but equality counts. note: why the two sides could not be compared.
    """

    name: str
    max_abs: float
    max_rel: float
    ok: bool
    note: str = ""
    share: float = 0.0


def failure(name: str, note: str) -> Row:
    """A row for what is of another kind or shape than recorded."""
    return Row(name, float("nan"), float("nan"), False, note)


def same(name: str, got: Any, want: Any) -> Row:
    """Equality of names, lists of names and flags."""
    if got == want:
        return Row(name, 0.0, 0.0, True)
    return failure(name, f"{got!r}, recorded {want!r}"[:200])


def _whole(values: np.ndarray) -> bool:
    return values.dtype.kind in "iub"


def compare(name: str, got: Any, want: Any, atol: float = 0.0, rtol: float = 0.0) -> Row:
    """Pass when |got - want| <= atol + rtol * |want| everywhere; NaN equals NaN."""
    if not (np.isfinite([atol, rtol]).all() and min(atol, rtol) >= 0):
        raise CannotRun(f"the tolerance of {name} is {atol}, {rtol}: numbers from 0 on are wanted")
    got, want = np.asarray(got), np.asarray(want)
    if want.dtype.kind in "US":
        raise CannotRun(f"{name} is recorded as the text {want.ravel()[:1].tolist()}, no number")
    steps = _whole(got) and _whole(want)  # a tolerance of whole steps says nothing of noise
    got, want = got.astype(np.float64), want.astype(np.float64)
    if got.shape != want.shape:
        return failure(name, f"shape {got.shape}, recorded {want.shape}")
    equal = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # NaN compares false
        difference = np.where(equal, 0.0, np.abs(got - want))
        limit = atol + rtol * np.abs(want)
        ok = bool(np.all(equal | (difference <= limit)))
        relative = np.where(equal, 0.0, difference / np.maximum(np.abs(want), 1e-12))
        used = np.where(equal | steps, 0.0, difference / limit)
    largest = [float(values.max(initial=0)) for values in (difference, relative, used)]
    return Row(name, largest[0], largest[1], ok, "", largest[2])


@dataclass(frozen=True)
class Check:
    """One kind of fixture.

    matches: whether a fixture is of this kind, from its content. run: its rows. remarks: patterns
    of entries that are no answer (`*` stands for one part of a path), each with the reason.
    """

    name: str
    matches: Callable[[Fixture], bool]
    run: Callable[[Fixture], list[Row]]
    remarks: Mapping[str, str] = field(default_factory=dict)

    def is_remark(self, path: str, value: Any) -> bool:
        """Whether an entry is no recorded answer: a description, a tolerance or a remark."""
        if path.rsplit(".", 1)[-1] in REMARKS or _is_sentence(value):
            return True
        return any(_pattern(pattern).fullmatch(path) for pattern in self.remarks)


def _is_sentence(value: Any) -> bool:
    return isinstance(value, str) and len(value.split()) >= SENTENCE


@functools.cache
def _pattern(pattern: str) -> re.Pattern[str]:
    """`cases.*.label` as an expression; `**` at the end stands for all that is below."""
    parts = [r".+" if p == "**" else r"[^.]+" if p == "*" else re.escape(p)
             for p in pattern.split(".")]  # fmt: skip
    return re.compile(r"\.".join(parts))


@dataclass(frozen=True)
class Verdict:
    """What became of a fixture.

    problem: why it cannot be run, one line. uncompared: entries and arrays that no row looked at.
    """

    name: str
    rows: tuple[Row, ...] = ()
    problem: str = ""
    uncompared: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """PASS, FAIL (other numbers) or CANNOT RUN (nothing can judge it, or not all of it)."""
        if any(not row.ok for row in self.rows):
            return "FAIL"
        return "PASS" if self.rows and not self.problem and not self.uncompared else "CANNOT RUN"

    @property
    def worst(self) -> Row:
        """The row that used most of its tolerance."""
        return max(self.rows, key=lambda row: row.share)

    def reasons(self) -> list[str]:
        """Why it is not PASS, a line each; the worst rows first."""
        failed = sorted((row for row in self.rows if not row.ok), key=lambda row: -row.share)
        lines = [
            f"{row.name}: {row.note or f'{row.max_abs:.3g} {row.max_rel:.3g}'}" for row in failed
        ]
        if self.problem:
            lines.append(self.problem)
        if self.uncompared:
            more = len(self.uncompared) - NAMED
            names = ", ".join(self.uncompared[:NAMED]) + (f" and {more} more" if more > 0 else "")
            lines.append(f"compared by nothing: {names}")
        if not lines and not self.rows:
            lines.append("the check compared nothing")
        return lines


@functools.cache
def all_checks() -> tuple[Check, ...]:
    """The checks of all modules."""
    modules = [importlib.import_module(f"tests.parity.{name}") for name in MODULES]
    return tuple(check for module in modules for check in module.CHECKS)


def find_check(fixture: Fixture, checks: Iterable[Check] | None = None) -> Check:
    """The one check that knows this kind of content; CannotRun if there is none, or several."""
    found = [c for c in (all_checks() if checks is None else checks) if c.matches(fixture)]
    if not found:
        keys = ", ".join(list(fixture.header)[:8]) or "no keys"
        raise CannotRun(f"no check knows a fixture with {keys}")
    if len(found) > 1:
        raise CannotRun(f"several checks know it: {', '.join(check.name for check in found)}")
    return found[0]


def uncompared(fixture: Fixture, check: Check) -> tuple[str, ...]:
    """Entries of the header, and arrays, that the check did not read and that are no remarks."""
    entries = [
        path
        for path, value in leaves(fixture.header.peek())
        if path not in fixture.used and value != {} and not check.is_remark(path, value)
    ]
    arrays = [f"array {name}" for name in fixture.arrays if name not in fixture.arrays.used]
    return (*entries, *arrays)


def one_line(error: BaseException) -> str:
    """The first line of an error's text, with its kind where that is no word of ours."""
    text = (str(error).splitlines() or [""])[0]
    ours = isinstance(error, CannotRun | MissingEntry | UserError)
    return text if ours else f"the check stopped at {type(error).__name__}: {text}"


def judge(fixture: Fixture) -> Verdict:
    """The verdict of a loaded fixture; never an exception."""
    try:
        check = find_check(fixture)
        rows = tuple(check.run(fixture))
    except Exception as error:  # noqa: BLE001, whatever a check raises concerns this fixture alone
        return Verdict(fixture.name, problem=one_line(error))
    return Verdict(fixture.name, rows, uncompared=uncompared(fixture, check))


def judge_file(path: Path) -> Verdict:
    """The verdict of the fixture of a `.json` file."""
    try:
        fixture = load_fixture(path)
    except CannotRun as error:
        return Verdict(path.name.removesuffix(".json"), problem=one_line(error))
    return judge(fixture)
