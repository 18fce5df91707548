# SPDX-License-Identifier: Apache-2.0
"""From a data set and a sampler to batches of tensors."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from datasets.base import DataError, image_size, size_text
from datasets.batch import Batch
from datasets.copies import Copies
from datasets.places import keep_copies, kept_copies
from datasets.samplers import Draw
from datasets.spec import Item
from datasets.workers import PREFETCH, Packing, WorkerLoader
from runtime.memory import available, is_out_of_memory
from runtime.memory import size_text as bytes_text
from runtime.worker import set_up
from transforms.sample import Sample

COPIES = 2  # of the pixels at one time: images and batch, then batch and shared batch
LARGE = 256 << 20  # bytes of images, below which free memory is not checked


class MemoryShortage(DataError):
    """The images of a batch were read, but handing them over needs more memory than there is."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """One item on its way from a worker: a sample, or the reason why there is none."""

    index: int
    name: str
    sample: Sample | None
    file: str
    error: str = ""


class Source(Protocol):
    """What `make_loader` reads from: items, and the sample of an index or draw."""

    items: list[Item]

    def __len__(self) -> int:
        """Number of items."""

    def __getitem__(self, draw: int | Draw) -> Sample:
        """The sample; DataError if its files are broken."""


class Numbered(Dataset[Loaded]):
    """Adds the item number to every sample; turns DataErrors into a note when asked to.

    A file too large for the memory is a DataError too.
    """

    def __init__(self, dataset: Source, report_unreadable: bool) -> None:
        self.dataset, self.report_unreadable = dataset, report_unreadable

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: int | Draw) -> Loaded:
        index = draw.index if isinstance(draw, Draw) else draw
        item = self.dataset.items[index]
        file = str(item.image)
        try:
            if self.report_unreadable:
                _check_memory(item.image)
            sample = self._sample(draw, item.image)
        except DataError as error:
            if not self.report_unreadable:
                raise
            return Loaded(index=index, name=item.name, sample=None, file=file, error=str(error))
        return Loaded(index=index, name=sample.name, sample=sample, file=file)

    def _sample(self, draw: int | Draw, path: Path) -> Sample:
        try:
            return self.dataset[draw]
        except (MemoryError, RuntimeError, cv2.error) as error:
            if not is_out_of_memory(error):
                raise
            raise DataError(f"{path}: there is not enough memory to read it") from error


def _check_memory(path: Path) -> None:
    """DataError for an image that does not fit into memory even once, as its header says.

    On a system that grants more memory than it has, reading it would end the whole program.
    """
    try:
        height, width = image_size(path)
    except DataError:  # the reader of the file says what is wrong with it
        return
    needed = 2 * 3 * height * width  # the decoded pixels, and what the decoder reads from
    left = available() if needed > LARGE else None
    if left is not None and needed > left:
        raise DataError(
            f"{path}: {size_text(height, width)} pixels take {bytes_text(needed)} to read, "
            f"{bytes_text(left)} of memory are free"
        )


def collate(samples: Sequence[Sample], indices: Sequence[int] | None = None) -> Batch:
    """Stack samples of one size; `indices` defaults to 0..B-1.

    Raises DataError when sizes differ.
    """
    if not samples:
        empty = torch.empty(0, 0, 0, 3, dtype=torch.uint8)
        return Batch(images=empty, labels=None, names=[], indices=[])
    check_sizes(samples)
    labels = [sample.label for sample in samples if sample.label is not None]
    rows = [torch.from_numpy(sample.rows) for sample in samples if sample.rows is not None]
    extras = set(samples[0].extras).intersection(*(sample.extras for sample in samples))
    originals = [torch.from_numpy(s.original) for s in samples if s.original is not None]
    return Batch(
        images=_stack([sample.image for sample in samples]),
        labels=_stack(labels) if len(labels) == len(samples) else None,
        names=[sample.name for sample in samples],
        indices=list(range(len(samples)) if indices is None else indices),
        rows=torch.stack(rows) if len(rows) == len(samples) else None,
        sizes=[sample.output_size or sample.size for sample in samples],
        extras={
            name: torch.stack([torch.from_numpy(sample.extras[name]) for sample in samples])
            for name in sorted(extras)
        },
        originals=torch.stack(originals) if len(originals) == len(samples) else None,
        valid=[sample.valid for sample in samples],
    )


def check_sizes(samples: Sequence[Sample]) -> None:
    """Raise DataError unless all images have one size, and so have their labels."""
    first = samples[0]
    for other in samples[1:]:
        for size, another in (
            (first.size, other.size),
            (first.output_size or first.size, other.output_size or other.size),
        ):
            if size != another:
                raise DataError(
                    f"{first.name} is {size_text(*size)} and {other.name} is "
                    f"{size_text(*another)}: images of different sizes cannot share a batch; "
                    "use --bs_val 1 (or --bs_trn 1 with --full_crop_training)"
                )


def _stack(arrays: Sequence[np.ndarray]) -> Tensor:
    """One tensor of arrays of one size, a single one being its memory.

    torch takes neither read-only nor mirrored memory.
    """
    tensors = [torch.from_numpy(np.require(each, None, ["C", "W"])) for each in arrays]
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)


def _collate_loaded(loaded: Sequence[Loaded]) -> Batch:
    """The batch of all that could be read; MemoryShortage if it does not fit into memory."""
    good = [item for item in loaded if item.sample is not None]
    samples = [item.sample for item in good if item.sample is not None]
    needed = sum(COPIES * sample.image.nbytes for sample in samples)
    left = available() if needed > LARGE else None
    try:
        if left is not None and needed > left:
            raise MemoryError
        batch = collate(samples, [item.index for item in good])
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        sizes = ", ".join(
            f"{item.file} ({size_text(*sample.size)} pixels)"
            for item, sample in zip(good, samples, strict=True)
        )
        reason = f"{bytes_text(needed)} are needed to hand it over"
        free = "" if left is None else f", {bytes_text(left)} of memory are free"
        raise MemoryShortage(f"{sizes}: {reason}{free}") from error
    batch.files = [item.file for item in good]
    batch.failed = [(item.name, item.error) for item in loaded if item.sample is None]
    return batch


def _collate_or_note(loaded: Sequence[Loaded]) -> Batch:
    """Like `_collate_loaded`; a batch that does not fit into memory is noted as not read."""
    try:
        return _collate_loaded(loaded)
    except MemoryShortage as error:
        return _noted(loaded, str(error))


def _noted(loaded: Sequence[Loaded], reason: str) -> Batch:
    """A batch without images, with the reason."""
    batch = collate([])
    batch.failed = [(item.name, item.error or reason) for item in loaded]
    return batch


def _set_up_worker(copies: Copies | None, worker: int) -> None:
    del worker
    set_up()
    keep_copies(copies)  # a process that is not forked from this one does not know


def stop_workers(loader: DataLoader[Any]) -> None:
    """End the worker processes of `loader` now; the next iteration starts new ones."""
    iterator = getattr(loader, "_iterator", None)
    loader._iterator = None
    if iterator is not None and hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()


def make_loader(
    dataset: Source,
    sampler: Sampler[Any],
    batch_size: int,
    workers: int,
    report_unreadable: bool = False,
) -> DataLoader[Batch]:
    """Batches of `dataset` in the order of `sampler`.

    report_unreadable: files that cannot be read arrive in `Batch.failed` and the others are
    processed; otherwise the first one raises its DataError (out of a worker process, torch wraps
    the traceback around the message; `runtime.outcome.one_line` unwraps it).
    """
    numbered = Numbered(dataset, report_unreadable)
    packing = Packing(_collate_loaded)
    if report_unreadable:
        packing = Packing(_collate_or_note, _noted)
    return worker_loader(numbered, sampler, batch_size, workers, packing)


def worker_loader(
    dataset: Dataset[Any],
    sampler: Sampler[Any],
    batch_size: int,
    workers: int,
    packing: Packing,
) -> DataLoader[Batch]:
    """A DataLoader whose workers stay, survive signals and draw nothing from the global state."""
    return WorkerLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=packing,
        prefetch_factor=PREFETCH if workers else None,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=functools.partial(_set_up_worker, kept_copies()),
        # Iterators draw a seed for their workers: not from the global random state, which dropout
        # uses and a checkpoint holds, so a resumed run continues with the same numbers.
        generator=torch.Generator().manual_seed(0),
    )
