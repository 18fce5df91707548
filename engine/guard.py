# SPDX-License-Identifier: Apache-2.0
"""Computations that end with an error before the memory of the machine is used up.

A system that grants more memory than it has ends the process that uses it, and libraries that find
no room for a few bytes may crash. So the process is limited to what is free, and asked after every
operation of torch how much of that is left.

    with bounded(room), Guard(reserve):
        ...                                  # MemoryError, or RuntimeError of a large allocation
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

MARGIN = 64 << 20  # bytes that must stay free
STATE = Path("/proc/self/statm")  # its first number: pages of address space
PAGE = resource.getpagesize()


def _address_space() -> int | None:
    """Bytes of address space that this process has; None where the system does not tell."""
    try:
        return int(STATE.read_text().split()[0]) * PAGE
    except OSError:
        return None


@contextlib.contextmanager
def bounded(room: int | None) -> Iterator[None]:
    """Inside, allocations beyond `room` further bytes fail; None: nothing changes.

    It is the address space that is limited, of which processes that compute on CUDA reserve far
    more than they use.
    """
    held = _address_space()
    if room is None or held is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([held + room, *known]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class HeapState(ctypes.Structure):
    """`mallinfo2` of GNU's malloc.h."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks",
                     "uordblks", "fordblks", "keepcost")
    )  # fmt: skip


def _asking_heap() -> Callable[[], HeapState] | None:
    """What tells the state of the heap; None where the allocator is another one."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return None
    ask.restype = HeapState
    return ask


class Guard(TorchDispatchMode):
    """MemoryError after an operation that leaves less than MARGIN and `reserve` bytes to allocate.

    Without a limit, as that of `bounded`, nothing is checked.
    """

    def __init__(self, reserve: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        self.most = None if limit == resource.RLIM_INFINITY else limit - MARGIN - reserve
        self.heap = _asking_heap()
        self.file = -1

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled in here; torch would load its compiler just to leave this out of it,
        which takes a second and a quarter of a GiB of address space."""
        return False

    def __enter__(self) -> Guard:
        if self.most is not None and STATE.exists():
            self.file = os.open(STATE, os.O_RDONLY)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.file >= 0 and self.most is not None:
            held = int(os.pread(self.file, 32, 0).split()[0]) * PAGE
            if held > self.most and self.heap is not None:
                held -= self.heap().fordblks  # freed, and kept for what comes next
            if held > self.most:
                raise MemoryError(f"less than {MARGIN >> 20} MiB would be left")
        return result
