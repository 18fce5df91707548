# SPDX-License-Identifier: Apache-2.0
"""From flags and configuration to the images and loaders of a classifier."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from config import Config, UserError
from datasets import classify, imagenet, room
from datasets.classify import ImageDataset, ImageDraw, ImageSampler
from datasets.imagenet import ClassSpec, ImageList
from datasets.loader import Batch
from datasets.registry import open_skip_list
from datasets.skip import SkipList
from runtime.names import fitted, part
from transforms.imagenet import Augmentation, ImageTransform, eval_transform, train_transform
from transforms.normalize import denormalize

SPLITS = {"trn": "train", "val": "val"}
NUM_DUMPED = 32


def imagenet_root(cfg: Config) -> Path:
    """The folder with train/ and val/; UserError that says where to set it."""
    key = "IMAGENET_DIR"
    value = getattr(cfg.DATASET, key)
    where = f"set it with --set DATASET.{key}=PATH, the environment variable HISEG_{key}, "
    where += "or in paths.yml"
    if not value:
        raise UserError(f"--dataset imagenet: DATASET.{key} is not set; {where}")
    path = Path(cfg.expand(value))
    if not path.is_dir():
        raise UserError(f"--dataset imagenet: DATASET.{key} is {path}, which is no folder; {where}")
    return path


def class_spec(args: argparse.Namespace, cfg: Config, names: tuple[str, ...] = ()) -> ClassSpec:
    """Classes of the set: the folders of train/, in an evaluation those of its own split.

    `names` are the classes a checkpoint was trained on; UserError when the folders are others.
    """
    split = SPLITS[args.eval] if args.eval else "train"
    found = imagenet.list_classes(imagenet_root(cfg), split)
    if names and len(found) != len(names):
        raise UserError(
            f"--snapshot {args.snapshot} knows {len(names)} classes, "
            f"{imagenet_root(cfg) / split} has {len(found)} class folders"
        )
    for number, (own, theirs) in enumerate(zip(found, names, strict=False)):
        if own != theirs:
            raise UserError(
                f"--snapshot {args.snapshot} was trained on other classes: number {number} is "
                f"{theirs}, in {imagenet_root(cfg) / split} it is {own}"
            )
    if len(found) == 1:
        raise UserError(
            f"{imagenet_root(cfg) / split}: one class folder, {found[0]}: with nothing to tell it "
            "from there is nothing to learn; a classifier needs two classes"
        )
    return ClassSpec(name="imagenet", class_names=found)


def pictures(cfg: Config, spec: ClassSpec, split: str, skip: SkipList | None = None) -> ImageList:
    """Images of `split` ("train" or "val") without those of `skip`, checked against the classes.

    `skip` is the list of DATASET.SKIP_LIST, read anew without it.
    """
    skip = skip or open_skip_list(cfg)
    found = imagenet.list_split(imagenet_root(cfg), split, spec.class_names)
    return found if skip is None else found.without(skip)


def augmentation(args: argparse.Namespace) -> Augmentation:
    """The random changes that the flags describe."""
    return Augmentation(
        scale=args.scale,
        ratio=args.ratio,
        hflip=args.hflip,
        vflip=args.vflip,
        color_jitter=args.color_jitter,
        policy=None if args.aa == "none" else args.aa,
        interpolation=args.train_interpolation,
        erase_prob=args.reprob,
        erase_mode=args.remode,
        erase_count=args.recount,
    )


def test_transform(args: argparse.Namespace) -> ImageTransform:
    """The resize and central crop of evaluation."""
    return eval_transform(args.img_size, args.crop_pct, args.interpolation)


def make_train_loader(
    args: argparse.Namespace, train: ImageList, rank: int, world: int
) -> tuple[DataLoader[Batch], ImageSampler]:
    """Loader and sampler of the training images."""
    sampler = ImageSampler(
        len(train), args.seed, rank, world, args.bs_trn, repeats=args.repeated_aug
    )
    transform = train_transform(args.img_size, augmentation(args))
    room.check_pictures(args, args.num_workers, args.bs_trn, len(sampler))
    loader = classify.train_loader(train, transform, sampler, args.bs_trn, args.num_workers)
    return loader, sampler


def make_eval_loader(
    args: argparse.Namespace, chosen: ImageList, rank: int, world: int
) -> DataLoader[Batch]:
    """This rank's share of the images to score."""
    workers = (args.num_workers + 1) // 2
    room.check_pictures(args, workers, args.bs_val, len(chosen))
    return classify.eval_loader(chosen, test_transform(args), rank, world, args.bs_val, workers)


def dump_augmentations(args: argparse.Namespace, train: ImageList, out_dir: Path) -> int:
    """Write augmented training images to `out_dir`; returns how many."""
    dataset = ImageDataset(train, train_transform(args.img_size, augmentation(args)))
    chosen = np.linspace(0, len(train) - 1, min(NUM_DUMPED, len(train))).astype(int).tolist()
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        for number, index in enumerate(chosen):
            item = dataset[ImageDraw(index=index, seed=(args.seed, 0, number))]
            assert item.image is not None
            name = part(item.name.replace("/", "_").rsplit(".", 1)[0])
            path = out_dir / fitted(name, before=f"{number:03d}_", after=".png")
            Image.fromarray(denormalize(item.image)).save(path)
    except OSError as error:
        raise UserError(f"{out_dir}: cannot be written: {error}") from error
    return len(chosen)
