# SPDX-License-Identifier: Apache-2.0
"""Hold this code against recorded numbers.

    python -m tests.parity tests/parity/fixtures/*
    python -m tests.parity DIR DIR/x17.json      # folders of any name, or single fixtures

One line a fixture: `PASS|FAIL name max_abs max_rel rows share`, where share is the largest part of
a tolerance that was used, or `CANNOT RUN name: reason`. What failed goes to stderr. Exit code 1
unless all passed, 2 where there are no fixtures.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.parity.core import WARN_SHARE, Verdict, judge_file
from tests.parity.fixture import fixture_names

SHOWN = 20  # reasons of one fixture


def _worst(values: list[float]) -> float:
    return next((value for value in values if value != value), max(values))


def report(verdict: Verdict) -> bool:
    """Print a verdict; whether it is PASS."""
    reasons = verdict.reasons() if verdict.word != "PASS" else []
    if verdict.word == "CANNOT RUN":
        print(f"CANNOT RUN {verdict.name}: {reasons[0]}", flush=True)
        return False
    rows, worst = verdict.rows, verdict.worst
    max_abs, max_rel = (
        _worst([getattr(row, key) for row in rows]) for key in ("max_abs", "max_rel")
    )
    line = f"{verdict.word} {verdict.name} {max_abs:.3g} {max_rel:.3g}"
    line += f" rows={len(rows)} share={worst.share:.2g}"
    if worst.share > WARN_SHARE:
        line += f" WARNING: more than half of the tolerance used by {worst.name}"
    print(line, flush=True)
    for reason in reasons[:SHOWN]:
        print(f"  {reason}", file=sys.stderr)
    if len(reasons) > SHOWN:
        print(f"  and {len(reasons) - SHOWN} more", file=sys.stderr)
    return verdict.word == "PASS"


def files_of(place: Path) -> list[Path]:
    """The fixtures of a folder, or the one of a file."""
    if place.is_dir():
        return [place / f"{name}.json" for name in fixture_names(place)]
    stem = place.name.removesuffix(".json").removesuffix(".npz")
    return [place.with_name(f"{stem}.json")] if place.is_file() else []


def main(arguments: list[str]) -> int:
    """Run all folders and files; the exit code."""
    if not arguments:
        print("usage: python -m tests.parity DIR|FILE...", file=sys.stderr)
        return 2
    files: list[Path] = []
    for argument in arguments:
        found = files_of(Path(argument))
        if not found:
            print(f"error: {argument} is no fixture and no folder with fixtures", file=sys.stderr)
            return 2
        files += found
    results = [report(judge_file(path)) for path in files]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
