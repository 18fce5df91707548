# SPDX-License-Identifier: Apache-2.0
"""How much memory a process may still take, and which errors mean that there was too little."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SYSTEM = Path("/")
NO_LIMIT = 1 << 60  # control groups without a limit state more than any machine has
# What torch, NumPy and OpenCV say about a failed allocation, besides MemoryError.
WORDS = ("not enough memory", "out of memory", "Insufficient memory", "Cannot allocate memory",
         "Failed to allocate", "Unable to allocate", "Invalid buffer size",
         "Storage size calculation overflowed",
         "could not create a primitive")  # fmt: skip  # oneDNN, of convolutions on a CPU


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is a failed allocation, on the host or on a CUDA device."""
    text = str(error)
    if "shared memory" in text:  # /dev/shm, which has a size of its own
        return False
    return isinstance(error, MemoryError) or any(word in text for word in WORDS)


def available(root: Path = SYSTEM) -> int | None:
    """Bytes that this process can still get, None if the system does not say.

    The smaller of what the machine has left and what the control groups of the process
    (containers, batch systems) allow; pages of files that can be dropped count as free. `root` is
    where /proc and /sys lie.
    """
    amounts = [_machine(root), *_groups(root)]
    known = [amount for amount in amounts if amount is not None]
    return max(min(known), 0) if known else None


def _machine(root: Path) -> int | None:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _groups(root: Path) -> list[int | None]:
    """What is left in each control group that this process is in, version 1 and 2."""
    found: list[int | None] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            base, limit, used = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "usage_in_bytes"
        elif not controllers:
            base, limit, used = "sys/fs/cgroup", "memory.max", "current"
        else:
            continue
        for folder in _chain(root / base, path):
            found.append(_left(folder, limit, f"memory.{used}"))
    return found


def _chain(base: Path, path: str) -> list[Path]:
    """The folder of a control group and those above it; inside a container only `base` is there."""
    folder = base / path.strip("/")
    chain = [folder, *folder.parents]
    return [each for each in chain if each.is_relative_to(base)]


def _left(folder: Path, limit: str, used: str) -> int | None:
    """The limit minus usage, not counting usage that can be dropped."""
    most, taken = _text(folder / limit).strip(), _text(folder / used).strip()
    if not most.isdecimal() or not taken.isdecimal() or int(most) >= NO_LIMIT:
        return None
    droppable = 0
    for line in _text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            droppable = int(value)
    return int(most) - int(taken) + droppable


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def size_text(amount: float) -> str:
    """Bytes as people write them."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit in ("bytes", "KiB") else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def shared_free(folder: str = "/dev/shm") -> int | None:
    """Free bytes of the file system behind shared memory, None if there is none."""
    try:
        state = os.statvfs(folder)
    except OSError:
        return None
    return state.f_bavail * state.f_frsize


def local_ranks() -> int:
    """Processes of this run on this machine, which share its memory."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "")
    return int(text) if text.isdecimal() and int(text) else 1


@dataclass
class HighWater:
    """Bytes that this process held `before` and, once that is over, at its highest (`peak`).

    None where the system does not tell (Linux does).
    """

    before: int | None = None
    peak: int | None = None


@contextlib.contextmanager
def high_water() -> Iterator[HighWater]:
    """How much memory this process takes inside; its high-water mark starts anew."""
    found = HighWater(_status("VmRSS") if _start_anew() else None)
    yield found
    if found.before is not None:
        found.peak = _status("VmHWM")


def peak_above(call: Callable[[], object]) -> int | None:
    """Bytes by which this process grew at its highest during `call()`.

    None where the system does not tell, without calling.
    """
    with high_water() as found:
        if found.before is None:
            return None
        result = call()
    del result
    return None if found.peak is None else max(found.peak - found.before, 0)


def _start_anew() -> bool:
    """Let the high-water mark of this process start at what it holds now; whether that worked."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # freed memory that is used again would not count
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return False
    return True


def own_limit() -> int | None:
    """Bytes of address space that this process may have (`ulimit -v`), None without a limit."""
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def free_text(free: int | None) -> str:
    """How much memory is `free`, and the limit of this process if it has one."""
    limit = own_limit()
    text = f"{'unknown' if free is None else size_text(free)} free"
    return text if limit is None else f"{text}, ulimit -v {size_text(limit)}"


def _status(field: str) -> int | None:
    """Bytes of a field of /proc/self/status."""
    for line in _text(Path("/proc/self/status")).splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None
