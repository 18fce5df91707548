# SPDX-License-Identifier: Apache-2.0
"""From settings to the images and loaders of a classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from assembly import room
from assembly.dataset import imagenet_root, open_skip_list
from datasets import classify, imagenet
from datasets.batch import Batch
from datasets.classify import ImageDataset, ImageDraw, ImageSampler
from datasets.imagenet import ClassSpec, ImageList
from datasets.skip import SkipList
from runtime.distributed import World
from runtime.errors import UserError
from runtime.names import fitted, part
from settings import Settings
from transforms.imagenet import Augmentation, ImageTransform, eval_transform, train_transform
from transforms.normalize import denormalize

SPLITS = {"trn": "train", "val": "val"}
NUM_DUMPED = 32


def class_spec(settings: Settings, names: tuple[str, ...] = ()) -> ClassSpec:
    """Classes of the set: the folders of train/, in an evaluation those of its own split.

    `names` are the classes a checkpoint was trained on; UserError when the folders are others.
    """
    split = SPLITS[settings.inference.eval] if settings.inference.eval else "train"
    found = imagenet.list_classes(imagenet_root(settings), split)
    if names and len(found) != len(names):
        raise UserError(
            f"--snapshot {settings.network.snapshot} knows {len(names)} classes, "
            f"{imagenet_root(settings) / split} has {len(found)} class folders"
        )
    for number, (own, theirs) in enumerate(zip(found, names, strict=False)):
        if own != theirs:
            raise UserError(
                f"--snapshot {settings.network.snapshot} was trained on other classes: number "
                f"{number} is {theirs}, in {imagenet_root(settings) / split} it is {own}"
            )
    if len(found) == 1:
        raise UserError(
            f"{imagenet_root(settings) / split}: one class folder, {found[0]}: with nothing to "
            "tell it from there is nothing to learn; a classifier needs two classes"
        )
    return ClassSpec(name=settings.data.dataset, class_names=found)


def images_of(
    settings: Settings, spec: ClassSpec, split: str, skip: SkipList | None = None
) -> ImageList:
    """Images of `split` ("train" or "val") without those of `skip`, checked against the classes.

    `skip` is the list of DATASET.SKIP_LIST, read anew without it.
    """
    skip = skip or open_skip_list(settings)
    found = imagenet.list_split(imagenet_root(settings), split, spec.class_names)
    return found if skip is None else found.without(skip)


def augmentation(settings: Settings) -> Augmentation:
    """The random changes that the settings describe."""
    recipe = settings.classification
    return Augmentation(
        scale=recipe.scale,
        ratio=recipe.ratio,
        hflip=recipe.hflip,
        vflip=recipe.vflip,
        color_jitter=recipe.color_jitter,
        policy=None if recipe.aa == "none" else recipe.aa,
        interpolation=recipe.train_interpolation,
        erase_prob=recipe.reprob,
        erase_mode=recipe.remode,
        erase_count=recipe.recount,
    )


def test_transform(settings: Settings) -> ImageTransform:
    """The resize and central crop of evaluation."""
    recipe = settings.classification
    return eval_transform(recipe.img_size, recipe.crop_pct, recipe.interpolation)


def make_train_loader(
    settings: Settings, train: ImageList, world: World, ranks: int | None = None
) -> tuple[DataLoader[Batch], ImageSampler]:
    """Loader and sampler of the training images."""
    data = settings.data
    sampler = ImageSampler(
        len(train),
        settings.run.seed,
        world.rank,
        world.size,
        data.bs_trn,
        repeats=settings.classification.repeated_aug,
        ranks=ranks,
    )
    transform = train_transform(settings.classification.img_size, augmentation(settings))
    room.check_images(settings, data.num_workers, data.bs_trn, len(sampler))
    loader = classify.train_loader(train, transform, sampler, data.bs_trn, data.num_workers)
    return loader, sampler


def make_eval_loader(settings: Settings, images: ImageList, world: World) -> DataLoader[Batch]:
    """This rank's share of the images to score."""
    workers = room.eval_workers(settings)
    room.check_images(settings, workers, settings.data.bs_val, len(images))
    return classify.eval_loader(
        images, test_transform(settings), world.rank, world.size, settings.data.bs_val, workers
    )


def dump_augmentations(settings: Settings, train: ImageList, out_dir: Path) -> int:
    """Write augmented training images to `out_dir`; returns how many."""
    dataset = ImageDataset(
        train, train_transform(settings.classification.img_size, augmentation(settings))
    )
    indices = np.linspace(0, len(train) - 1, min(NUM_DUMPED, len(train))).astype(int).tolist()
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        for number, index in enumerate(indices):
            item = dataset[ImageDraw(index=index, seed=(settings.run.seed, 0, number))]
            assert item.image is not None
            name = part(item.name.replace("/", "_").rsplit(".", 1)[0])
            path = out_dir / fitted(name, before=f"{number:03d}_", after=".png")
            Image.fromarray(denormalize(item.image)).save(path)
    except OSError as error:
        raise UserError(f"{out_dir}: cannot be written: {error}") from error
    return len(indices)
