# SPDX-License-Identifier: Apache-2.0
"""The batches that need most, of a training and of its validation: those that are rehearsed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from assembly.data import eval_transform
from datasets.base import item_size, size_text
from datasets.batch import Batch
from datasets.registry import is_black
from datasets.samplers import Draw
from datasets.spec import DatasetSpec, Item
from engine.feed import EpochSampler, batch_of
from engine.rehearsal import Trial
from runtime.parallel import in_threads
from settings import Settings
from transforms.sample import Sample


def training_batch(
    loader: DataLoader[Batch],
    sampler: EpochSampler,
    epoch: int,
    larger: Callable[[list[Any]], list[Any]],
) -> Batch:
    """The first batch of `epoch`, of the draws that `larger` makes of its own."""
    sampler.set_epoch(epoch)
    assert loader.batch_sampler is not None
    return batch_of(loader, larger(list(next(iter(loader.batch_sampler)))))


def of_largest(draws: list[Draw], items: Sequence[Item], threads: int) -> list[Draw]:
    """As many draws, all of the item whose image has the most pixels."""
    sizes = list(in_threads(item_size, items, threads))
    index = max(range(len(items)), key=lambda number: sizes[number][0] * sizes[number][1])
    return [Draw(index, None, draw.seed) for draw in draws]


def evaluation_trial(
    loader: DataLoader[Batch],
    run: Callable[[Batch], object],
    work: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    written: Callable[[], int],
) -> Trial:
    """The batch of this rank that means most work; `work` and (H, W) are those of every item."""
    assert loader.batch_sampler is not None
    batches = [list(batch) for batch in loader.batch_sampler]
    if not batches:
        return Trial(load=lambda: None, run=run, title="no image", times=0.0, written=written)
    amounts = [sum(work[index] for index in batch) for batch in batches]
    most = max(range(len(batches)), key=lambda number: amounts[number])
    chosen = batches[most]

    def load() -> Batch | None:
        batch = batch_of(loader, chosen)
        return batch if batch.names else None

    return Trial(
        load=load,
        run=run,
        title=images_text(len(chosen), sizes[chosen[0]]),
        times=sum(amounts) / max(amounts[most], 1),
        written=written,
    )


def image_work(
    settings: Settings, spec: DatasetSpec, items: Sequence[Item]
) -> tuple[list[int], list[tuple[int, int]]]:
    """What evaluating each item means, in pixels that pass and that are decided, and its (H, W)."""
    if is_black(settings.data.dataset):
        sizes = [settings.augmentation.crop_size] * len(items)
    else:
        sizes = list(in_threads(item_size, items, settings.data.num_workers))
    transform = eval_transform(settings, spec)

    @functools.cache
    def pixels(size: tuple[int, int]) -> int:
        blank = Sample(image=np.zeros((*size, 3), np.uint8), label=None, name="")
        made = transform(blank, np.random.default_rng(0))
        height, width = made.output_size or made.size
        return made.size[0] * made.size[1] + height * width

    return [pixels(size) for size in sizes], sizes


def images_text(count: int, size: tuple[int, int]) -> str:
    """Some images of one size (H, W)."""
    return f"{count} image{'' if count == 1 else 's'} of {size_text(*size)}"


class PictureBytes:
    """Takes the previews of a validation in place of a tracker, and counts what they would fill."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, title: str, image: torch.Tensor, step: int) -> None:
        """As `RunLog.image`."""
        pixels = (image * 255).byte().permute(1, 2, 0).numpy()
        self.sizes.append(cv2.imencode(".png", pixels)[1].nbytes)

    def mean(self) -> int:
        """Bytes of one picture."""
        return sum(self.sizes) // max(len(self.sizes), 1)
