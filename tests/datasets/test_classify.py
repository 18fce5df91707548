# SPDX-License-Identifier: Apache-2.0
"""Images for a classifier: draws, unreadable files, batches."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.base import DataError
from datasets.classify import ImageDataset, ImageDraw, ImageSampler, eval_loader, train_loader
from datasets.imagenet import ImageList, list_classes, list_split
from tests.class_folders import break_image, write_class_folders
from transforms.imagenet import Augmentation, eval_transform, train_transform

AUGMENT = train_transform(16, Augmentation(erase_prob=1.0))
PLAIN = eval_transform(16, 0.9, "bicubic")


@pytest.fixture
def images(tmp_path: Path) -> ImageList:
    root = write_class_folders(tmp_path / "set", size=24, train=4, val=1, classes=3)
    return list_split(root, "train", list_classes(root, "train"))


def test_a_draw_gives_the_same_image_whatever_was_drawn_before(images: ImageList) -> None:
    dataset = ImageDataset(images, AUGMENT)
    draw = ImageDraw(index=5, seed=(0, 3, 17))
    first = dataset[draw].image
    random.random(), np.random.rand(), torch.rand(1)
    assert torch.equal(first, dataset[draw].image)
    other = dataset[ImageDraw(index=5, seed=(0, 3, 18))].image
    assert not torch.equal(first, other)


def test_images_are_scored_as_they_are_stored_not_turned_by_exif(images: ImageList) -> None:
    plain = ImageDataset(images, PLAIN)
    before = plain[0].image
    exif = Image.Exif()
    exif[0x0112] = 6
    data, entry = images.path(0).read_bytes(), exif.tobytes()
    header = b"\xff\xe1" + (len(entry) + 2).to_bytes(2, "big")
    images.path(0).write_bytes(data[:2] + header + entry + data[2:])
    with Image.open(images.path(0)) as image:
        assert image.getexif()[0x0112] == 6
    assert torch.equal(plain[0].image, before)


def test_reading_leaves_the_global_random_states_alone(images: ImageList) -> None:
    dataset = ImageDataset(images, AUGMENT)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    dataset[ImageDraw(index=0, seed=(1, 2, 3))]
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.get_rng_state().tolist() == states[2]


def test_an_unreadable_image_is_replaced_by_the_next_and_named(images: ImageList) -> None:
    broken = break_image(images.path(2))
    item = ImageDataset(images, AUGMENT)[ImageDraw(index=2, seed=(0, 0, 0))]
    assert item.image is not None and item.name == images.name(3) and item.target == 0
    ((name, reason),) = item.failed
    assert name == images.name(2) and str(broken) in reason


def test_a_set_of_broken_images_is_an_error(images: ImageList) -> None:
    for index in range(len(images)):
        break_image(images.path(index))
    with pytest.raises(DataError, match="12 images in a row cannot be read"):
        ImageDataset(images, AUGMENT)[ImageDraw(index=2, seed=(0, 0, 0))]


def test_training_batches_stay_full_evaluation_leaves_broken_images_out(
    images: ImageList,
) -> None:
    break_image(images.path(2))
    sampler = ImageSampler(12, 0, 0, 1, 4)
    trained = list(train_loader(images, AUGMENT, sampler, 4, 0))
    assert [len(batch.images) for batch in trained] == [4, 4, 4]
    assert [name for batch in trained for name, _ in batch.failed] == [images.name(2)]
    scored = list(eval_loader(images, PLAIN, 0, 1, 3, 0))
    assert [len(batch.images) for batch in scored] == [2, 3, 3, 3]
    assert torch.cat([batch.labels for batch in scored]).tolist() == [0] * 3 + [1] * 4 + [2] * 4
    assert [name for name, _ in scored[0].failed] == [images.name(2)]


def test_a_batch_of_broken_images_alone_is_empty(images: ImageList) -> None:
    break_image(images.path(0))
    first = next(iter(eval_loader(images, PLAIN, 0, 1, 1, 0)))
    assert first.names == [] and len(first.failed) == 1 and len(first.labels) == 0


def draws(sampler: ImageSampler) -> list[int]:
    return [draw.index for draw in sampler]


def test_ranks_share_an_epoch_and_pad_it_to_whole_batches() -> None:
    parts = [draws(ImageSampler(10, 7, rank, 2, 3)) for rank in range(2)]
    assert [len(part) for part in parts] == [6, 6]
    merged = [index for pair in zip(*parts, strict=True) for index in pair]
    assert sorted(merged[:10]) == list(range(10))
    assert merged[10:] == merged[:2]


def test_epochs_differ_and_a_start_inside_one_drops_its_first_batches() -> None:
    sampler = ImageSampler(12, 7, 0, 1, 4)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert draws(sampler) != [draw.index for draw in first]
    sampler.set_epoch(1, start_step=2)
    assert list(sampler) == second[8:] and len(sampler) == 12
    assert len({draw.seed for draw in first + second}) == 24


def test_repeated_augmentations_of_a_image_fall_into_one_step_on_different_ranks() -> None:
    parts = [list(ImageSampler(12, 7, rank, 3, 2, repeats=3)) for rank in range(3)]
    for step in zip(*parts, strict=True):
        assert len({draw.index for draw in step}) == 1
        assert len({draw.seed for draw in step}) == 3
    assert len({draw.index for draw in parts[0]}) == 4
