# SPDX-License-Identifier: Apache-2.0
"""Which draw goes to which rank, in which order, with which augmentation seed.

Training pads the shuffled list to whole batches on every rank; evaluation gives every image to
exactly one rank. Both are pure functions of (seed, epoch), so that a resumed run continues with
the draws that an uninterrupted one would have seen.

A training is laid out for the ranks that it starts with. When another number of processes goes on
with it, they share the batches of these ranks (`places`): images, their order and what is together
in a batch stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from datasets.uniform import Entry

MAX_REPEATS = 64  # of an image in one step
_SHUFFLE = 1 << 21  # stream of the shuffle, apart from those of `datasets.uniform`


@dataclass(frozen=True)
class Draw:
    """One training draw. The augmented sample is a pure function of these values.

    index: item of the data set. centroid: (x, y) the crop should contain, source pixels.
    seed: entropy of the augmentation, (seed, epoch, position in the epoch).
    """

    index: int
    centroid: tuple[int, int] | None
    seed: tuple[int, ...]

    def generator(self) -> np.random.Generator:
        """A fresh generator for the transforms of this draw."""
        return np.random.default_rng(self.seed)


def check_batch(count: int, batch_size: int, world: int) -> None:
    """Raise ValueError if one step would show the `count` images of an epoch absurdly often.

    A few times is fine: padding fills the batches of a small set with new augmentations of it.
    """
    step = batch_size * world
    if step > MAX_REPEATS * count:
        raise ValueError(
            f"--bs_trn {batch_size} x {world} processes: a step would show each of the {count} "
            f"images of an epoch {step // count} times; at most {MAX_REPEATS} times work: "
            f"--bs_trn {max(MAX_REPEATS * count // world, 1)} or less"
        )


@dataclass(frozen=True, kw_only=True)
class Part:
    """The batches of an epoch that process `rank` of `world` sees, of a run laid out for `ranks`.

    The batches of the ranks are numbered step by step, in a step rank by rank. The process takes
    every `world`-th; where their number does not divide, the last one is repeated.
    """

    rank: int
    world: int
    ranks: int
    batch_size: int

    def steps(self, count: int) -> int:
        """Batches of each rank in an epoch of `count` draws, padded to whole batches."""
        return -(-count // (self.batch_size * self.ranks))

    def draws(self, count: int) -> int:
        """Draws of this process in an epoch of `count` draws."""
        return -(-self.steps(count) * self.ranks // self.world) * self.batch_size

    def start(self, step: int) -> int:
        """Draws of this process before batch `step` of each rank."""
        return -(-step * self.ranks // self.world) * self.batch_size

    def places(self, count: int) -> npt.NDArray[np.int64]:
        """(draws,) places in the padded epoch, of which number `count` is its first draw again."""
        shape = self.steps(count), self.batch_size, self.ranks
        batches = np.arange(np.prod(shape)).reshape(shape).swapaxes(1, 2)
        rows = batches.reshape(-1, self.batch_size)[self.rank :: self.world]
        missing = self.draws(count) // self.batch_size - len(rows)
        return np.concatenate([rows, *[batches[-1, -1:]] * missing]).ravel()


class TrainSampler(Sampler[Draw]):
    """Draws of one process, epoch after epoch.

    plan: epoch -> list of (item, centroid), the same on all ranks (`datasets.uniform`). The list
    is shuffled by (seed, epoch) and padded from its beginning to whole batches on every rank.
    ranks: for which the run is laid out, if not for its `world` processes (`Part`).
    `len` is the number of draws of this process in a whole epoch, also while resuming inside one;
    `steps` counts the batches of a rank. Raises ValueError if a plan is empty, or too small for the
    batch (`check_batch`).
    """

    def __init__(
        self,
        plan: Callable[[int], list[Entry]],
        seed: int,
        rank: int,
        world: int,
        batch_size: int,
        ranks: int | None = None,
    ) -> None:
        self._plan, self._seed = plan, seed
        self._part = Part(rank=rank, world=world, ranks=ranks or world, batch_size=batch_size)
        self.set_epoch(0)

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """Draws of `epoch` from now on, without the first `start_step` batches of each rank."""
        entries, part = self._plan(epoch), self._part
        if not entries:
            raise ValueError(f"epoch {epoch} has no images: the training list is empty")
        check_batch(len(entries), part.batch_size, part.ranks)
        order = np.random.default_rng([self._seed, epoch, _SHUFFLE]).permutation(len(entries))
        places = part.places(len(entries)).tolist()
        drawn = [entries[order[place % len(entries)]] for place in places]
        self._draws = [
            Draw(item, centroid, (self._seed, epoch, place))
            for place, (item, centroid) in zip(places, drawn, strict=True)
        ]
        self._start, self.steps = part.start(start_step), part.steps(len(entries))

    def __iter__(self) -> Iterator[Draw]:
        return iter(self._draws[self._start :])

    def __len__(self) -> int:
        return len(self._draws)


class EvalSampler(Sampler[int]):
    """Image numbers of one rank: every world-th, each image on exactly one rank, no padding."""

    def __init__(self, num_items: int, rank: int, world: int) -> None:
        self._indices = range(rank, num_items, world)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)
