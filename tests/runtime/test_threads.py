# SPDX-License-Identifier: Apache-2.0
"""Threads follow affinity, quotas and loader processes; memory follows the control groups."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.memory import available, is_out_of_memory, size_text
from runtime.threads import loaders_of, settle, usable_cpus
from tests.program import ROOT

CPUS = len(os.sched_getaffinity(0))


def system(root: Path, groups: str, **files: str) -> Path:
    """A root with /proc and /sys files; `__` in a keyword stands for a slash."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    (root / "proc/meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable: 4000000 kB\n")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    "groups, files",
    [
        ("0::/a/b\n", {"a__cpuDOTmax": "100000 100000", "a__b__cpuDOTmax": "max 100000"}),
        ("0::/\n", {"cpuDOTmax": "150000 100000"}),
        ("3:cpu,cpuacct:/j\n0::/\n",
         {"cpu,cpuacct__j__cpuDOTcfs_quota_us": "100000",
          "cpu,cpuacct__j__cpuDOTcfs_period_us": "100000"}),
        ("3:cpu:/gone\n",
         {"cpu__cpuDOTcfs_quota_us": "20000", "cpu__cpuDOTcfs_period_us": "100000"}),
    ],
)  # fmt: skip
def test_a_quota_of_one_core_gives_one(tmp_path: Path, groups: str, files: dict[str, str]) -> None:
    assert usable_cpus(system(tmp_path, groups, **files)) == 1


@pytest.mark.parametrize("content", ["max 100000", "", "-1", "x y", "0 0"])
def test_without_a_quota_the_affinity_counts(tmp_path: Path, content: str) -> None:
    assert usable_cpus(system(tmp_path, "0::/\n", cpuDOTmax=content)) == CPUS
    assert usable_cpus(tmp_path / "nowhere") == CPUS


def test_memory_is_the_smaller_one_of_machine_and_control_groups(tmp_path: Path) -> None:
    free = system(tmp_path / "a", "0::/\n", memoryDOTmax="max")
    assert available(free) == 4_000_000 * 1024
    limited = system(
        tmp_path / "b", "4:memory:/job\n0::/\n",
        memory__job__memoryDOTlimit_in_bytes="1000000",
        memory__job__memoryDOTusage_in_bytes="900000",
        memory__job__memoryDOTstat="total_inactive_file 300000\n",
    )  # fmt: skip
    assert available(limited) == 400_000
    assert available(tmp_path / "nowhere") is None
    assert size_text(3 << 30) == "3.0 GiB"


def test_errors_of_memory_are_told_from_others() -> None:
    torch = "[enforce fail at alloc_cpu.cpp:120] err == 0. DefaultCPUAllocator: can't allocate"
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError(torch + " memory: Error code 12 (Cannot allocate memory)"))
    assert is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert not is_out_of_memory(RuntimeError("unable to allocate shared memory(shm)"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_what_the_user_or_the_launcher_chose_stays() -> None:
    environment = {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "active"}
    assert settle(1, environment) is None
    assert environment["OMP_NUM_THREADS"] == "7" and environment["OMP_WAIT_POLICY"] == "active"


def test_loader_processes_and_other_ranks_get_their_cores() -> None:
    for loaders in (0, 1, CPUS, 1000):
        environment: dict[str, str] = {}
        settle(loaders, environment)
        assert environment["OMP_NUM_THREADS"] == str(max(usable_cpus() - loaders, 1))
        assert environment["OMP_WAIT_POLICY"] == "passive"
    environment = {"LOCAL_WORLD_SIZE": "1000"}
    assert settle(0, environment) == 1
    assert (loaders_of(5, True), loaders_of(5, False)) == (3, 5)


def test_torch_computes_with_the_chosen_threads() -> None:
    code = (
        "from runtime.threads import settle; count = settle(0); import torch; "
        "assert torch.get_num_threads() == count, (torch.get_num_threads(), count)"
    )
    kept = {name: value for name, value in os.environ.items() if "OMP" not in name}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=kept, capture_output=True)
    assert done.returncode == 0, done.stderr
