# SPDX-License-Identifier: Apache-2.0
"""How many threads a program uses, and how they wait; chosen before torch is imported.

    settle(loaders_of(num_workers, is_evaluation))    # once the flags are read

OpenMP's threads wait for each other in a busy loop by default. If another program occupies one of
the cores, all other threads burn theirs until that thread gets its turn: a passive wait costs
little on an idle machine and saves a factor of ten on a busy one.
"""

from __future__ import annotations

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

SYSTEM = Path("/")
PASSIVE = {
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "0",  # GNU's, in the wheels of torch
    "KMP_BLOCKTIME": "0",  # Intel's and LLVM's
}
COUNT = "OMP_NUM_THREADS"


def usable_cpus(root: Path = SYSTEM) -> int:
    """Cores that this process may use: its affinity, and the time its control groups grant.

    A quota of 2.5 cores counts as 2, never below 1. `root` is where /proc and /sys lie.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(min([count, *(math.floor(quota) for quota in _quotas(root))]), 1)


def _quotas(root: Path) -> list[float]:
    """Cores that each control group of this process grants, version 1 and 2."""
    found = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        bases = []
        if "cpu" in controllers.split(","):
            bases = [root / "sys/fs/cgroup/cpu", root / f"sys/fs/cgroup/{controllers}"]
        elif not controllers:
            bases = [root / "sys/fs/cgroup"]
        for base in bases:
            folder = base / path.strip("/")
            chain = [each for each in (folder, *folder.parents) if each.is_relative_to(base)]
            found += [quota for each in chain if (quota := _quota(each)) is not None]
    return found


def _quota(folder: Path) -> float | None:
    """Microseconds that the group may compute in a period, divided by the period."""
    words = _text(folder / "cpu.max").split()
    if not words:
        words = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if len(words) != 2 or not all(word.isdecimal() for word in words):
        return None  # "max", -1, or missing
    quota, period = map(int, words)
    return quota / period if quota and period else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def loaders_of(num_workers: int, evaluates: bool) -> int:
    """Loader processes of a program with `--num_workers`: an evaluation has half as many."""
    return (num_workers + 1) // 2 if evaluates else num_workers


def settle(loaders: int, environment: MutableMapping[str, str] = os.environ) -> int | None:
    """Set the variables that OpenMP reads when torch is loaded; values set by the user stay.

    The `loaders` worker processes of this one need a core each. Several ranks on a machine share
    its cores. Returns the number of threads, None if the user or the launcher chose it.
    """
    for name, value in PASSIVE.items():
        environment.setdefault(name, value)
    if COUNT in environment:
        return None
    local = environment.get("LOCAL_WORLD_SIZE", "")
    ranks = int(local) if local.isdecimal() and int(local) else 1
    count = max(usable_cpus() // ranks - loaders, 1)
    environment[COUNT] = str(count)
    return count
