# SPDX-License-Identifier: Apache-2.0
"""How the memory allocator of a process treats memory that is freed and soon wanted again."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt in GNU's malloc.h
KEPT = 128 << 20  # bytes that stay with the process
GIVEN_BACK = 1 << 20  # bytes from which on a block is one of its own
LARGEST = 32 << 20  # bytes of a block that is taken from them; the allocator allows no more


def keep_freed_memory() -> bool:
    """Let this process keep the memory of images that it frees; returns whether it could be told.

    GNU's allocator gives large blocks back to the system at once, and gets them again page by
    page, each filled with zeros, which can take longer than what is done with them. For processes
    that make one image after the other; few large blocks of many sizes would leave holes.
    """
    return _tell({MMAP_THRESHOLD: LARGEST, TRIM_THRESHOLD: KEPT})


def give_freed_memory_back(least: int = GIVEN_BACK) -> bool:
    """Let this process give blocks of `least` bytes and more back to the system at once; whether it
    could be told.

    For processes whose address space is limited (`ulimit -v`): what the allocator keeps has holes,
    into which the next large block may not fit.
    """
    return _tell({MMAP_THRESHOLD: least})


def _tell(parameters: Mapping[int, int]) -> bool:
    """Set parameters of GNU's allocator; False for another C library."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all(mallopt(name, value) for name, value in parameters.items())
