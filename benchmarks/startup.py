# SPDX-License-Identifier: Apache-2.0
"""How long a user waits for an answer: help, a wrong flag, the configuration alone.

    python -m benchmarks.startup

Baseline: a bare interpreter that imports torch, what any program that parses late has to pay.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 5
LIMIT_SECONDS = 1.0
COMMANDS = {
    "train.py --help": ["train.py", "--help"],
    "eval.py --help": ["eval.py", "--help"],
    "train.py --no_such_flag": ["train.py", "--no_such_flag"],
    "import config": ["-c", "import config"],
    "baseline: import torch": ["-c", "import torch"],
}


def fastest(arguments: list[str]) -> float:
    """Seconds of the fastest of a few runs of the interpreter with `arguments`."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, check=False)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    """Print one line per command."""
    print(f"{'command':<28}{'seconds':>9}   limit")
    for name, arguments in COMMANDS.items():
        limit = "" if name.startswith("baseline") else f"{LIMIT_SECONDS:.1f}"
        print(f"{name:<28}{fastest(arguments):>9.3f}   {limit}")


if __name__ == "__main__":
    main()
