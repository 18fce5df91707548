# SPDX-License-Identifier: Apache-2.0
"""The same work on many things at once, in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_threads(work: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """`work` of all items in their order, `workers` at a time; the first error ends the rest."""
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        try:
            yield from pool.map(work, items)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
