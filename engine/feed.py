# SPDX-License-Identifier: Apache-2.0
"""What a training loop is fed with: a loader, what draws for it, what happens to each batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch.utils.data import DataLoader

from datasets.batch import Batch

Prepare = Callable[[Batch, int], Batch]


class EpochSampler(Protocol):
    """Draws of an epoch, starting at any of its steps; it has `steps` batches of each rank."""

    steps: int

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """Draws of `epoch` from now on, without its first `start_step` batches."""


def as_loaded(batch: Batch, epoch: int) -> Batch:
    """The batch as it came from the loader."""
    del epoch
    return batch


@dataclass(frozen=True, kw_only=True)
class Feed:
    """Where the batches of a training come from.

    `sampler` is told the epoch before `loader` is read; `prepare(batch, epoch)` may change a batch
    on the device before the network sees it.
    """

    loader: DataLoader[Batch]
    sampler: EpochSampler
    prepare: Prepare = as_loaded


class Group(NamedTuple):
    """Batches of this process for one optimiser step, in which each rank would see `steps`."""

    batches: list[Batch]
    steps: int


def batch_of(loader: DataLoader[Batch], draws: Sequence[Any]) -> Batch:
    """The batch of `draws`, which are those of the sampler of `loader`, without its processes."""
    dataset, collate = loader.dataset, loader.collate_fn
    batch: Batch = collate([dataset[draw] for draw in draws])
    return batch
