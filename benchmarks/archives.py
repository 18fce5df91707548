# SPDX-License-Identifier: Apache-2.0
"""Reading a set from its zips against reading it from folders: the same images, labels and code.

    python -m benchmarks.archives                          # PNG as large as those of Cityscapes
    python -m benchmarks.archives --size 360,480 --images 60
    python -m benchmarks.archives --size 512,683 --images 60 --kind jpg    # as in ADE20K
    python -m benchmarks.archives --size 375,500 --images 200 --kind jpg --tar   # as in ImageNet

CPU time of one thread per image with its label: bytes and decoding, then with the augmentation of
a training, which is what a loader process does. Sides take turns, best of the rounds; files are in
the memory of the system. The last side reads the folder through --cache_dir.
"""

from __future__ import annotations

import argparse
import dataclasses
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import torch
from PIL import Image

from benchmarks.loaders import write_scenes
from benchmarks.measure import print_table, time_in_turn
from benchmarks.pipeline import VOID, make_dataset
from benchmarks.program import POSITIVE
from datasets import places
from datasets.base import SegmentationDataset
from datasets.copies import GB, Copies
from datasets.samplers import Draw
from datasets.spec import Item
from transforms.pipeline import train_pipeline

LIMIT = 1.10


def as_jpegs(items: Sequence[Item]) -> list[Item]:
    """The same scenes with JPEG images."""
    found = []
    for item in items:
        path = item.image.with_suffix(".jpg")
        Image.open(item.image).save(path, quality=90)
        item.image.unlink()
        found.append(dataclasses.replace(item, image=path))
    return found


def packed(items: Sequence[Item], path: Path, method: int | None) -> list[Item]:
    """The items inside a new zip of one method of compression, or a tar."""
    folder = items[0].image.parent
    if method is None:
        with tarfile.open(path, "w") as tar:
            tar.add(folder, "set")
    else:
        with zipfile.ZipFile(path, "w", method) as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, f"set/{file.name}")
    inside = path / "set"
    return [
        dataclasses.replace(item, image=inside / item.image.name, label=inside / label.name)
        for item in items
        if (label := item.label) is not None
    ]


def reader(items: Sequence[Item], copies: Copies | None = None) -> Callable[[], object]:
    """Read and decode every item."""
    dataset = make_dataset(items, None)
    return lambda: _each(copies, lambda: [dataset.read(n) for n in range(len(items))])


def loader(
    items: Sequence[Item], size: tuple[int, int], copies: Copies | None = None
) -> Callable[[], object]:
    """Read, decode and augment every item, as a loader process does."""
    transform = train_pipeline(crop_size=size, ignore_label=VOID, blur="gauss")
    dataset: SegmentationDataset = make_dataset(items, transform)
    draws = [Draw(index, None, (0, 0, index)) for index in range(len(items))]
    return lambda: _each(copies, lambda: [dataset[draw] for draw in draws])


def _each(copies: Copies | None, call: Callable[[], object]) -> object:
    places.keep_copies(copies)
    try:
        return call()
    finally:
        places.keep_copies(None)


def main() -> None:
    """Parse, write the scenes in every form, measure, print."""
    parser = argparse.ArgumentParser(description="reading from zips against reading from folders")
    parser.add_argument("--size", default="1024,2048", help="height,width of files and crops")
    parser.add_argument("--images", type=POSITIVE, default=12)
    parser.add_argument("--kind", choices=("png", "jpg"), default="png", help="of the images")
    parser.add_argument("--tar", action="store_true", help="a tar, too")
    parser.add_argument("--rounds", type=POSITIVE, default=5)
    args = parser.parse_args()
    height, width = (int(side) for side in args.size.split(","))
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as text:
        root = Path(text)
        (root / "set").mkdir()
        files = write_scenes(root / "set", (height, width), args.images)
        if args.kind == "jpg":
            files = as_jpegs(files)
        sides = {
            "folder": files,
            "zip, stored": packed(files, root / "stored.zip", zipfile.ZIP_STORED),
            "zip, deflated": packed(files, root / "deflated.zip", zipfile.ZIP_DEFLATED),
        }
        if args.tar:
            sides["tar"] = packed(files, root / "set.tar", None)
        copies = Copies(root / "copies", 100 * GB)
        copies.prepare()
        reads = {name: reader(items) for name, items in sides.items()}
        reads["folder through copies"] = reader(files, copies)
        loads = {name: loader(items, (height, width)) for name, items in sides.items()}
        loads["folder through copies"] = loader(files, (height, width), copies)
        for title, calls in (("read and decode", reads), ("with augmentation", loads)):
            found = time_in_turn(calls, args.rounds + 1)  # of the first, copies are written
            rows = {name: seconds / len(files) for name, seconds in found.items()}
            print_table(f"{title}, {height}x{width} {args.kind}, per image", rows, LIMIT)


if __name__ == "__main__":
    main()
