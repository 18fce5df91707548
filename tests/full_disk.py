# SPDX-License-Identifier: Apache-2.0
"""Writing that fails half way, as on a full disk, through the kernel's limit on file sizes."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

REASON = "File too large"  # what the kernel answers


@contextlib.contextmanager
def full_after(size: int) -> Iterator[None]:
    """Inside, no file of this process grows beyond `size` bytes: OSError with `REASON`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
