# SPDX-License-Identifier: Apache-2.0
"""Processes that go on with the training of another number of ranks, and play these in turn.

A run is laid out for the ranks it was started with: its files hold the random states of that many,
its draws and batches are theirs. Two processes that go on for four ranks see two batches a step
each, one as either of their ranks. So a batch meets the same others in batch norm, the same dropout
and the same mixing as before, and only the order of summation differs.

Processes that cannot play whole ranks (three for four ranks, or eight) share the batches all the
same, but draw their random numbers from the seed, the step and the batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor

from runtime import distributed, seeds


class Turns:
    """The part of process `rank` of `world` in a run that is laid out for `ranks`.

    The batches of a step are numbered through the accumulation, at each place of it rank by rank;
    the process sees every `world`-th (`datasets.samplers.Part`).
    """

    def __init__(self, ranks: int = 1, rank: int = 0, world: int = 1, seed: int = 0) -> None:
        self.ranks, self.rank, self.world, self.seed = ranks, rank, world, seed
        whole = ranks % world == 0
        self.played = list(range(rank, ranks, world)) if whole else []
        self._now = rank  # whose random numbers are drawn
        self._states: dict[int, dict[str, Any]] = {}  # of the ranks whose turn it is not

    @property
    def keeps_draws(self) -> bool:
        """Whether random numbers and batch-norm statistics are those of the ranks."""
        return bool(self.played)

    def batches(self, steps: int) -> int:
        """Batches that this process sees while each rank would see `steps`."""
        return -(-steps * self.ranks // self.world)

    def part(self, loss: Tensor, number: int, steps: int) -> Tensor:
        """What batch `number` adds to the mean loss of the processes.

        steps: batches of each rank in this optimiser step. The rest of an epoch may leave a process
        without a batch: it repeats one, which does not count.
        """
        count = steps * self.ranks
        own = loss / (count / self.world)
        return own if number < count else own * 0

    @contextlib.contextmanager
    def turn(self, number: int, iteration: int, buffers: Iterable[Tensor]) -> Iterator[None]:
        """Inside, batch `number` is seen as by its rank: random numbers, and running statistics,
        of which those of rank 0 are kept, as DistributedDataParallel does.
        """
        if self.ranks == self.world:
            yield
            return
        if self.keeps_draws:
            self._draw_as(number % self.ranks)
        else:
            seeds.seed_draws((self.seed, iteration, number))
        kept = [(buffer, buffer.clone()) for buffer in buffers] if number % self.ranks else []
        yield
        for buffer, before in kept:
            buffer.copy_(before)

    def position(self) -> tuple[int, dict[int, dict[str, Any]]]:
        """Whose turn it is, and the random states of the others, for `go_back`."""
        return self._now, dict(self._states)

    def go_back(self, position: tuple[int, dict[int, dict[str, Any]]]) -> None:
        """Be where `position` was asked for; the random state of the process is not changed."""
        self._now, self._states = position

    def _draw_as(self, rank: int) -> None:
        if rank != self._now:
            self._states[self._now] = seeds.random_state()
            seeds.set_random_state(self._states.pop(rank))
            self._now = rank

    def random_states(self) -> list[dict[str, Any]]:
        """Those of all ranks, for a checkpoint; collective."""
        own = dict(self._states)
        if self.keeps_draws:
            own[self._now] = seeds.random_state()
        every = {
            rank: state for part in distributed.gather_objects(own) for rank, state in part.items()
        }
        return [every[rank] for rank in range(self.ranks)]

    def set_random_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on from what `random_states` returned; those of another layout do not fit."""
        if len(states) != self.ranks:
            return
        self._states = {rank: states[rank] for rank in self.played or range(self.ranks)}
        if self.keeps_draws:
            self._now = self.rank
            seeds.set_random_state(self._states.pop(self._now))
