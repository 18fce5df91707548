# SPDX-License-Identifier: Apache-2.0
"""Training pipeline, images per second on one core: the published PIL procedure against ours.

    python -m benchmarks.pipeline                                # generated JPEGs of 360 x 480
    python -m benchmarks.pipeline --root /data/camvid            # real frames, CamVid layout
    python -m benchmarks.pipeline --augmentation mmseg           # the pipeline of ADE20K, 512 x 512

Both sides read the same files from disk, decode image and label, scale by 0.5..2, crop 360 x 480,
flip, jitter colours and blur; the published one also normalises, which is done on the device
here. Rounds alternate in one process, set up as a loader process; CPU time counts.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from skimage.filters import gaussian

from benchmarks.measure import print_table, time_in_turn
from benchmarks.mmseg_procedure import CROP as MMSEG_CROP
from benchmarks.mmseg_procedure import IMG_SCALE, mmseg_sample
from benchmarks.program import POSITIVE
from datasets.base import SegmentationDataset
from datasets.samplers import Draw
from datasets.spec import DatasetSpec, Item
from runtime.heap import keep_freed_memory
from transforms.normalize import MEAN, STD
from transforms.pipeline import mmseg_train_pipeline, train_pipeline
from transforms.sample import Transform

CROP = (360, 480)
VOID = 11


def write_frames(root: Path, count: int) -> list[Item]:
    """`count` smooth images with noise (JPEG, quality 92) and blocky labels (PNG)."""
    rng = np.random.default_rng(0)
    items = []
    for index in range(count):
        coarse = rng.uniform(0, 255, (9, 12, 3)).astype(np.float32)
        smooth = cv2.resize(coarse, (CROP[1], CROP[0]), interpolation=cv2.INTER_CUBIC)
        image = np.asarray(smooth) + rng.normal(0, 12, smooth.shape)
        label = np.kron(rng.integers(0, VOID + 1, (12, 16)), np.ones((30, 30))).astype(np.uint8)
        image_path, label_path = root / f"{index}.jpg", root / f"{index}.png"
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(image_path, quality=92)
        Image.fromarray(label).save(label_path)
        items.append(Item(name=str(index), image=image_path, label=label_path))
    return items


def listed_frames(root: Path, count: int) -> list[Item]:
    """The first `count` pairs of a folder in CamVid layout."""
    lines = (root / "train.txt").read_text().splitlines()[:count]
    pairs = [line.split() for line in lines if line.strip()]
    return [Item(name=image, image=root / image, label=root / label) for image, label in pairs]


def published_crop(
    image: Image.Image, mask: Image.Image, rng: random.Random
) -> tuple[Image.Image, Image.Image]:
    """Resize the whole image, pad where it is short, cut the crop."""
    scale = rng.uniform(0.5, 2.0)
    size = int(image.width * scale), int(image.height * scale)
    image = image.resize(size, Image.Resampling.BICUBIC)
    mask = mask.resize(size, Image.Resampling.NEAREST)
    short = [max(CROP[1] - size[0], 0), max(CROP[0] - size[1], 0)]
    pads = tuple(missing // 2 + 1 if missing else 0 for missing in short)
    if any(pads):
        image = ImageOps.expand(image, pads, fill=0)
        mask = ImageOps.expand(mask, pads, fill=VOID)
    left, top = rng.randint(0, image.width - CROP[1]), rng.randint(0, image.height - CROP[0])
    box = (left, top, left + CROP[1], top + CROP[0])
    return image.crop(box), mask.crop(box)


def published_hue(image: Image.Image, factor: float) -> Image.Image:
    """Hue shift through Pillow's HSV mode."""
    hue, saturation, value = image.convert("HSV").split()
    shifted = np.array(hue)
    shifted += np.uint8(int(factor * 255) % 256)
    turned = Image.merge("HSV", (Image.fromarray(shifted), saturation, value))
    return turned.convert("RGB")


def published_sample(item: Item, rng: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    """One training sample by the published procedure, (3, H, W) float and (H, W) int64."""
    assert item.label is not None
    image, mask = published_crop(
        Image.open(item.image).convert("RGB"), Image.open(item.label).convert("L"), rng
    )
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    steps: list[Callable[[Image.Image], Image.Image]] = [
        lambda image: ImageEnhance.Brightness(image).enhance(rng.uniform(0.75, 1.25)),
        lambda image: ImageEnhance.Contrast(image).enhance(rng.uniform(0.75, 1.25)),
        lambda image: ImageEnhance.Color(image).enhance(rng.uniform(0.75, 1.25)),
        lambda image: published_hue(image, rng.uniform(-0.25, 0.25)),
    ]
    rng.shuffle(steps)
    for step in steps:
        image = step(image)
    blurred = gaussian(np.array(image), sigma=rng.uniform(0.15, 1.30), channel_axis=2) * 255
    tensor = torch.from_numpy(blurred.astype(np.uint8)).permute(2, 0, 1).contiguous().float()
    tensor = tensor.div(255)
    tensor.sub_(torch.tensor(MEAN).view(3, 1, 1)).div_(torch.tensor(STD).view(3, 1, 1))
    return tensor, torch.from_numpy(np.array(mask)).long()


def our_transform(augmentation: str) -> Transform:
    """The pipeline that is measured."""
    if augmentation == "mmseg":
        return mmseg_train_pipeline(crop_size=MMSEG_CROP, ignore_label=255, img_scale=IMG_SCALE)
    return train_pipeline(crop_size=CROP, ignore_label=VOID, blur="gauss")


def make_dataset(items: Sequence[Item], transform: Transform | None) -> SegmentationDataset:
    """Our data set over `items`, eleven classes and void."""
    spec = DatasetSpec(
        name="bench",
        class_names=tuple(map(str, range(VOID))),
        palette=tuple((i, i, i) for i in range(VOID)),
        id_to_train_id={i: i for i in range(VOID + 1)},
        ignore_label=VOID,
        train_id_to_id=tuple(range(VOID)),
    )
    return SegmentationDataset(items, spec, transform)


def our_sample(dataset: SegmentationDataset, draw: Draw) -> tuple[torch.Tensor, torch.Tensor]:
    """One training sample as a loader process hands it over: bytes, (H, W, 3) and (H, W)."""
    sample = dataset[draw]
    assert sample.label is not None
    return torch.from_numpy(sample.image), torch.from_numpy(sample.label)


def published_round(items: Sequence[Item]) -> None:
    """Every item once by the published procedure."""
    rng = random.Random(0)
    for item in items:
        published_sample(item, rng)


def mmseg_round(items: Sequence[Item]) -> None:
    """Every item once, step by step as the mmsegmentation recipes describe it."""
    np.random.seed(0)  # noqa: NPY002
    for item in items:
        mmseg_sample(item)


def our_round(dataset: SegmentationDataset) -> None:
    """Every item once by this project."""
    for index in range(len(dataset)):
        our_sample(dataset, Draw(index, None, (0, 0, index)))


def measure(items: Sequence[Item], rounds: int, augmentation: str) -> dict[str, float]:
    """CPU seconds per image of both sides."""
    published = {
        "hmsa": ("published, PIL", partial(published_round, items)),
        "mmseg": ("published, step by step", partial(mmseg_round, items)),
    }
    name, call = published[augmentation]
    dataset = make_dataset(items, our_transform(augmentation))
    sides = {name: call, "ours": partial(our_round, dataset)}
    seconds = time_in_turn(sides, rounds)
    return {name: spent / len(items) for name, spent in seconds.items()}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description="images per second of the training pipeline")
    parser.add_argument("--root", type=Path, help="folder in CamVid layout; default: generated")
    parser.add_argument("--images", type=POSITIVE, default=100, help="images per round")
    parser.add_argument("--rounds", type=POSITIVE, default=4, help="rounds of each side")
    parser.add_argument("--augmentation", choices=("hmsa", "mmseg"), default="hmsa")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        if args.root is None:
            items = write_frames(Path(folder), args.images)
        else:
            items = listed_frames(args.root, args.images)
        seconds = measure(items, args.rounds, args.augmentation)
    limit = 1 / 3.5 if args.augmentation == "hmsa" else None
    print_table(f"training pipeline {args.augmentation}, an image", seconds, limit=limit)
    for name, spent in seconds.items():
        print(f"  {name:32} {1 / spent:9.0f} images/s")


if __name__ == "__main__":
    main()
