# SPDX-License-Identifier: Apache-2.0
"""From flags to class folders and loaders: what does not fit is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from assembly import classification_data as data
from config import UserError
from runtime.distributed import World
from settings import Settings, read_settings
from tests.class_folders import write_class_folders

NAMES = ("n00000000", "n00000001", "n00000002")


ALONE = World(rank=0, size=1, local_rank=0, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_class_folders(tmp_path_factory.mktemp("set"), size=36, train=3, val=2, classes=3)


def parsed(root: Path | str, *more: str) -> Settings:
    argv = ["--task", "classify", "--arch", "hrvit.b1_224", "--num_workers", "0", *more]
    return read_settings([*argv, "--set", f"DATASET.IMAGENET_DIR={root}"])


def test_classes_and_images_of_the_splits(root: Path) -> None:
    told = parsed(root)
    spec = data.class_spec(told)
    assert spec.class_names == NAMES
    assert [len(data.images_of(told, spec, split)) for split in ("train", "val")] == [9, 6]


def test_an_evaluation_needs_no_training_images(root: Path, tmp_path: Path) -> None:
    (tmp_path / "val").symlink_to(root / "val")
    told = parsed(tmp_path, "--eval", "val")
    assert data.class_spec(told, NAMES).num_classes == 3


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "b"), "best.pth knows 2 classes, .*val has 3 class folders"),
        (("n00000000", "n0000000x", "n00000002"), "other classes: number 1 is n0000000x, in .* it"),
    ],
)
def test_classes_of_another_checkpoint_are_refused(
    root: Path, names: tuple[str, ...], message: str
) -> None:
    told = parsed(root, "--eval", "val", "--snapshot", "best.pth")
    with pytest.raises(UserError, match=message):
        data.class_spec(told, names)


def test_missing_root_says_where_to_set_it(tmp_path: Path) -> None:
    for value, word in (("", "not set"), (tmp_path / "absent", "no folder")):
        told = parsed(value)
        with pytest.raises(UserError, match=f"{word}.*HISEG_IMAGENET_DIR"):
            data.class_spec(told)


def test_loaders_have_the_size_of_the_flags(root: Path) -> None:
    told = parsed(root, "--img_size", "48", "--bs_trn", "4", "--bs_val", "4")
    spec = data.class_spec(told)
    loader, sampler = data.make_train_loader(told, data.images_of(told, spec, "train"), ALONE)
    assert [batch.images.shape for batch in loader] == [(4, 3, 48, 48)] * 3
    assert len(sampler) == 12
    scored = data.make_eval_loader(told, data.images_of(told, spec, "val"), ALONE)
    assert [len(batch.images) for batch in scored] == [4, 2]


def test_augmented_images_are_written_for_looking_at(root: Path, tmp_path: Path) -> None:
    told = parsed(root, "--img_size", "40")
    train = data.images_of(told, data.class_spec(told), "train")
    assert data.dump_augmentations(told, train, tmp_path) == 9
    files = sorted(tmp_path.iterdir())
    assert files[4].name == "004_n00000001_n00000001_1.png"
    with Image.open(files[4]) as picture:
        assert picture.size == (40, 40)
