# SPDX-License-Identifier: Apache-2.0
"""From files to the main process: workers that hand over numbers against workers that hand bytes.

    python -m benchmarks.loaders                                  # 1024x2048 PNG, two workers
    python -m benchmarks.loaders --size 360,480 --batch 8

The reference normalises in the workers, hands over float32 images and int64 labels, and lets the
allocator give memory back after every step; the rest is the same code. Both read the same generated
files, scale, crop to their size, flip, jitter and blur. Wall time of whole rounds in turn, best of
each; the last column is what travels through shared memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.pipeline import VOID, make_dataset
from benchmarks.program import POSITIVE
from datasets.batch import Batch
from datasets.loader import Loaded, Numbered, collate, make_loader, stop_workers
from datasets.samplers import Draw
from datasets.spec import Item
from datasets.workers import PREFETCH, Packing, WorkerLoader
from transforms.normalize import to_tensor
from transforms.pipeline import train_pipeline


def write_scenes(root: Path, size: tuple[int, int], count: int) -> list[Item]:
    """`count` PNG images that compress like photographs, with blocky labels."""
    rng, items = np.random.default_rng(0), []
    for index in range(count):
        coarse = rng.uniform(0, 255, (size[0] // 16, size[1] // 16, 3)).astype(np.float32)
        smooth = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
        image = (np.asarray(smooth) + rng.normal(0, 4, (*size, 3))).clip(0, 255).astype(np.uint8)
        blocks = rng.integers(0, VOID + 1, (-(-size[0] // 32), -(-size[1] // 32)), dtype=np.uint8)
        label = np.kron(blocks, np.ones((32, 32), np.uint8))[: size[0], : size[1]]
        image_path, label_path = root / f"{index}_image.png", root / f"{index}_label.png"
        Image.fromarray(image).save(image_path)
        Image.fromarray(np.ascontiguousarray(label)).save(label_path)
        items.append(Item(name=str(index), image=image_path, label=label_path))
    return items


def collate_numbers(loaded: Sequence[Loaded]) -> Batch:
    """The reference: normalised images and wide labels, made where the files are read."""
    samples = [item.sample for item in loaded if item.sample is not None]
    batch = collate(samples, [item.index for item in loaded])
    assert batch.labels is not None
    return dataclasses.replace(
        batch,
        images=torch.stack([to_tensor(sample.image, sample.valid) for sample in samples]),
        labels=batch.labels.to(torch.int64),
    )


def travelling(batch: Batch) -> int:
    """Bytes of images and labels of one image."""
    assert batch.labels is not None
    return (batch.images.nbytes + batch.labels.nbytes) // len(batch.names)


def measure(
    sides: dict[str, DataLoader[Batch]], rounds: int
) -> tuple[dict[str, float], dict[str, int]]:
    """Images per second of the fastest round of each loader, and bytes that one image takes."""
    rates, sent = dict.fromkeys(sides, 0.0), dict.fromkeys(sides, 0)
    for number in range(rounds + 1):  # the first starts the processes
        for name, loader in sides.items():
            start, images = time.perf_counter(), 0
            for batch in loader:
                images += len(batch.names)
                sent[name] = travelling(batch)
            if number:
                rates[name] = max(rates[name], images / (time.perf_counter() - start))
    return rates, sent


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description="images per second that loader processes deliver")
    parser.add_argument("--size", default="1024,2048", help="height,width of files and crops")
    parser.add_argument("--images", type=POSITIVE, default=12, help="files, each read four times")
    parser.add_argument("--batch", type=POSITIVE, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=POSITIVE, default=3)
    args = parser.parse_args()
    height, width = (int(side) for side in args.size.split(","))
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        items = write_scenes(Path(folder), (height, width), args.images)
        transform = train_pipeline(crop_size=(height, width), ignore_label=VOID, blur="gauss")
        dataset = make_dataset(items * 4, transform)
        draws = [Draw(index, None, (0, 0, index)) for index in range(len(dataset))]
        numbers = WorkerLoader(
            Numbered(dataset, False),
            batch_size=args.batch,
            sampler=draws,
            num_workers=args.workers,
            collate_fn=Packing(collate_numbers),
            prefetch_factor=PREFETCH,
            persistent_workers=True,
        )
        sides: dict[str, DataLoader[Batch]] = {
            "numbers (reference)": numbers,
            "bytes": make_loader(dataset, draws, args.batch, args.workers),  # type: ignore[arg-type]
        }
        rates, sent = measure(sides, args.rounds)
        for loader in sides.values():
            stop_workers(loader)
    first = next(iter(rates))
    print(f"{height}x{width}, {args.workers} workers, batches of {args.batch}")
    for name, rate in rates.items():
        print(
            f"  {name:24}{rate:9.1f} images/s  x {rate / rates[first]:.2f}"
            f"{sent[name] / 2**20:9.2f} MiB an image  x {sent[name] / sent[first]:.2f}"
        )


if __name__ == "__main__":
    main()
