# SPDX-License-Identifier: Apache-2.0
"""Computations end with an error before the memory does."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable

import pytest
import torch

from engine.guard import MARGIN, Guard, bounded
from runtime.memory import is_out_of_memory, own_limit

MIB = 1 << 20


def taken(mebibytes: int) -> torch.Tensor:
    return torch.ones(mebibytes * MIB // 4)


def test_an_allocation_beyond_the_room_fails_and_afterwards_works() -> None:
    with bounded(200 * MIB):
        assert own_limit() is not None
        assert taken(20).sum() > 0
        with pytest.raises(RuntimeError) as error:
            taken(400)
    assert is_out_of_memory(error.value)
    assert taken(400).sum() > 0


def test_the_limit_of_the_process_is_what_it_was() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(KeyError), bounded(500 * MIB):
        raise KeyError
    with bounded(None):
        assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def many_small_allocations() -> None:
    """They end while something is left."""
    held = []
    with bounded(MARGIN + 300 * MIB), Guard(), pytest.raises(MemoryError, match="64 MiB") as error:
        while len(held) < 1000:
            held.append(torch.ones(MIB // 4))
    assert 200 < len(held) < 320
    assert is_out_of_memory(error.value)


def a_backward_pass() -> None:
    """It is guarded too."""
    weight = torch.ones(60 * MIB // 4, requires_grad=True)
    with bounded(MARGIN + 100 * MIB), Guard():
        product = weight * 1.0
        with pytest.raises(MemoryError):
            product.sum().backward()


@pytest.mark.slow
@pytest.mark.parametrize("work", [many_small_allocations, a_backward_pass])
def test_a_guard_ends_what_takes_too_much(work: Callable[[], None]) -> None:
    """In a process of its own: what other tests have freed would count as free here."""
    process = multiprocessing.get_context("spawn").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == 0


def test_memory_that_was_freed_counts_as_free() -> None:
    with bounded(MARGIN + 300 * MIB), Guard():
        for _ in range(5):  # of 160 MiB each
            torch.cat([torch.ones(MIB // 4) for _ in range(80)])


def test_without_a_limit_nothing_is_checked() -> None:
    with Guard(1 << 60):
        assert taken(1).sum() > 0
