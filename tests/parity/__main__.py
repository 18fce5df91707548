# SPDX-License-Identifier: Apache-2.0
"""Hold this code against folders of recorded numbers.

    python -m tests.parity tests/parity/fixtures/hmsa
    python -m tests.parity DIR/hmsa DIR/hanet        # a folder's own name is the system

Prints `PASS|FAIL name max_abs max_rel`, one line a fixture, and what failed on stderr. Exit code
1 if any fixture failed or no check knows it, 2 for a folder without fixtures.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.parity.core import Row, fixture_names, run_folder


def _worst(values: list[float]) -> float:
    return next((value for value in values if value != value), max(values))


def _report(name: str, rows: list[Row]) -> bool:
    ok = all(row.ok for row in rows)
    max_abs = _worst([row.max_abs for row in rows])
    max_rel = _worst([row.max_rel for row in rows])
    print(f"{'PASS' if ok else 'FAIL'} {name} {max_abs:.3g} {max_rel:.3g}", flush=True)
    for row in rows:
        if not row.ok:
            note = f" ({row.note})" if row.note else ""
            print(f"  {row.name}: {row.max_abs:.3g} {row.max_rel:.3g}{note}", file=sys.stderr)
    return ok


def main(arguments: list[str]) -> int:
    """Run all folders; the exit code."""
    if not arguments:
        print("usage: python -m tests.parity DIR...", file=sys.stderr)
        return 2
    folders = [Path(argument) for argument in arguments]
    for folder in folders:
        if not folder.is_dir() or not fixture_names(folder):
            print(f"error: {folder} is no folder with fixtures", file=sys.stderr)
            return 2
    results = [_report(name, rows) for folder in folders for name, rows in run_folder(folder)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
