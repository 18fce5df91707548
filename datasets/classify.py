# SPDX-License-Identifier: Apache-2.0
"""Labelled images for a classifier: reading, drawing, batching.

An image that cannot be read never ends a training that takes days: in training another one takes
its place, in evaluation it is left out; in both cases `Batch.failed` names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from datasets.base import DataError, read_image
from datasets.batch import Batch
from datasets.imagenet import ImageList
from datasets.loader import worker_loader
from datasets.samplers import EvalSampler, Part, check_batch
from datasets.workers import Packing
from transforms.imagenet import ImageTransform, drawing_from

MAX_REPLACED = 50  # unreadable images in a row, after which the set itself is wrong
_ORDER = 1 << 22  # stream of the order of an epoch


@dataclass(frozen=True, kw_only=True)
class ImageDraw:
    """One training draw; `seed` is (seed, epoch, place in the epoch), for the augmentation."""

    index: int
    seed: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One image on its way from a worker.

    image: (3, S, S) float32, None if the file could not be read. failed: (name, reason) of
    every file that could not be read on the way.
    """

    index: int
    name: str
    image: Tensor | None
    target: int
    failed: tuple[tuple[str, str], ...] = ()


class ImageDataset(Dataset[Labelled]):
    """The images of one split, transformed.

    An `ImageDraw` gives an augmented image, a pure function of the draw and the files; a plain
    index the image as `transform` leaves it.
    """

    def __init__(self, images: ImageList, transform: ImageTransform) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def _read(self, index: int) -> Tensor:
        # not turned by EXIF: the published scores were obtained on the images as stored
        return self.transform(read_image(self.images.path(index), turned=False))

    def _labelled(
        self, index: int, image: Tensor | None, failed: list[tuple[str, str]]
    ) -> Labelled:
        return Labelled(
            index=index,
            name=self.images.name(index),
            image=image,
            target=int(self.images.targets[index]),
            failed=tuple(failed),
        )

    def __getitem__(self, draw: int | ImageDraw) -> Labelled:
        """The image; DataError after `MAX_REPLACED` unreadable ones in a row of a draw."""
        if isinstance(draw, int):
            try:
                return self._labelled(draw, self._read(draw), [])
            except DataError as error:
                return self._labelled(draw, None, [(self.images.name(draw), str(error))])
        failed: list[tuple[str, str]] = []
        for step in range(min(MAX_REPLACED, len(self))):
            index = (draw.index + step) % len(self)
            try:
                with drawing_from(draw.seed):
                    return self._labelled(index, self._read(index), failed)
            except DataError as error:
                failed.append((self.images.name(index), str(error)))
        raise DataError(f"{len(failed)} images in a row cannot be read, the last: {failed[-1][1]}")


class ImageSampler(Sampler[ImageDraw]):
    """Draws of one process, epoch after epoch, made while they are asked for.

    Every epoch has as many draws as images, in an order drawn from (seed, epoch) and padded from
    its beginning to whole batches on every rank. With `repeats` R every image occurs R times in a
    row before the list is cut to that length: its R augmentations fall into the same step on
    different ranks, and an epoch sees 1/R of the images. ranks, `steps`: see `TrainSampler`.
    Source: Hoffer et al., "Augment Your Batch" (2020), as used by DeiT.
    """

    def __init__(
        self,
        num_images: int,
        seed: int,
        rank: int,
        world: int,
        batch_size: int,
        repeats: int = 1,
        ranks: int | None = None,
    ) -> None:
        self._count, self._seed, self._repeats = num_images, seed, repeats
        self._part = Part(rank=rank, world=world, ranks=ranks or world, batch_size=batch_size)
        self.steps = self._part.steps(num_images)
        check_batch(num_images, batch_size, self._part.ranks)
        self.set_epoch(0)

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """Draws of `epoch` from now on, without the first `start_step` batches of each rank."""
        order = np.random.default_rng([self._seed, epoch, _ORDER]).permutation(self._count)
        self._order = np.repeat(order, self._repeats)[: self._count]
        self._places = self._part.places(self._count)
        self._epoch, self._start = epoch, self._part.start(start_step)

    def __iter__(self) -> Iterator[ImageDraw]:
        for place in self._places[self._start :].tolist():
            index = int(self._order[place % self._count])
            yield ImageDraw(index=index, seed=(self._seed, self._epoch, place))

    def __len__(self) -> int:
        """Draws of this process in a whole epoch, also while resuming inside one."""
        return self._part.draws(self._count)


def collate(items: Sequence[Labelled]) -> Batch:
    """images (B, 3, S, S), labels (B,) int64; B counts the images that could be read."""
    good = [(item, item.image) for item in items if item.image is not None]
    images = [image for _, image in good]
    return Batch(
        images=torch.stack(images) if images else torch.empty(0, 3, 0, 0),
        labels=torch.tensor([item.target for item, _ in good], dtype=torch.int64),
        names=[item.name for item, _ in good],
        indices=[item.index for item, _ in good],
        failed=[failure for item in items for failure in item.failed],
    )


def train_loader(
    images: ImageList,
    transform: ImageTransform,
    sampler: ImageSampler,
    batch_size: int,
    workers: int,
) -> DataLoader[Batch]:
    """Augmented batches in the order of `sampler`."""
    dataset = ImageDataset(images, transform)
    return worker_loader(dataset, sampler, batch_size, workers, Packing(collate))


def eval_loader(
    images: ImageList,
    transform: ImageTransform,
    rank: int,
    world: int,
    batch_size: int,
    workers: int,
) -> DataLoader[Batch]:
    """This rank's share, every image on exactly one rank."""
    sampler = EvalSampler(len(images), rank, world)
    dataset = ImageDataset(images, transform)
    return worker_loader(dataset, sampler, batch_size, workers, Packing(collate))
