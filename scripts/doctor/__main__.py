# SPDX-License-Identifier: Apache-2.0
"""Can this machine train? Versions, devices, memory, data sets, and a step of each kind.

    python -m scripts.doctor           # one line per finding: ok, warn or fail, and the way out
    python -m scripts.doctor --json    # the same for programs

Nothing is changed. Exit code 0: nothing failed; 1: something did; 2: a wrong flag.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from runtime import streams
from scripts.doctor import compute, files, machine, packages
from scripts.doctor.finding import FAIL, LEVELS, Check, Finding, findings, worst

CHECKS: dict[str, Check] = {
    "python": packages.python,
    "packages": packages.required,
    "optional": packages.optional,
    "devices": machine.devices,
    "threads": machine.threads,
    "memory": machine.memory,
    "shared memory": machine.shared,
    "file handles": machine.handles,
    "settings": files.settings,
    "runx": files.runx,
    "data": files.data,
    "writing": files.writing,
    "precision": compute.precisions,
    "processes": compute.processes,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run every check; 0 unless one fails."""
    parser = argparse.ArgumentParser(prog="scripts.doctor", description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = bool(vars(parser.parse_args(argv))["json"])
    streams.tolerate()
    found: list[Finding] = []
    for name, check in CHECKS.items():
        for finding in findings(name, check):
            found.append(finding)
            if not as_json:
                print(finding.line(), flush=True)
    counts = {level: sum(each.level == level for each in found) for level in LEVELS}
    if as_json:
        content = {"level": worst(found), "findings": [dataclasses.asdict(each) for each in found]}
        print(json.dumps(content, indent=2))
    else:
        print(", ".join(f"{count} {level}" for level, count in counts.items()))
    return 1 if worst(found) == FAIL else 0


if __name__ == "__main__":
    sys.exit(main())
