# SPDX-License-Identifier: Apache-2.0
"""From flags to class folders and loaders: what does not fit is one line."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from PIL import Image

import flags
from config import Config, UserError
from datasets import classify_build as data
from tests.class_folders import write_class_folders

NAMES = ("n00000000", "n00000001", "n00000002")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_class_folders(tmp_path_factory.mktemp("set"), size=36, train=3, val=2, classes=3)


def parsed(root: Path | str, *more: str) -> tuple[argparse.Namespace, Config]:
    argv = ["--task", "classify", "--arch", "hrvit.b1_224", "--num_workers", "0", *more]
    args, given = flags.read_flags([*argv, "--set", f"DATASET.IMAGENET_DIR={root}"])
    target = Config()
    flags.resolve(args, given, target)
    return args, target


def test_classes_and_images_of_the_splits(root: Path) -> None:
    args, cfg = parsed(root)
    spec = data.class_spec(args, cfg)
    assert spec.class_names == NAMES
    assert [len(data.pictures(cfg, spec, split)) for split in ("train", "val")] == [9, 6]


def test_an_evaluation_needs_no_training_images(root: Path, tmp_path: Path) -> None:
    (tmp_path / "val").symlink_to(root / "val")
    args, cfg = parsed(tmp_path, "--eval", "val")
    assert data.class_spec(args, cfg, NAMES).num_classes == 3


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
    args, cfg = parsed(root, "--eval", "val", "--snapshot", "best.pth")
    with pytest.raises(UserError, match=message):
        data.class_spec(args, cfg, names)


def test_missing_root_says_where_to_set_it(tmp_path: Path) -> None:
    for value, word in (("", "not set"), (tmp_path / "absent", "no folder")):
        args, cfg = parsed(value)
        with pytest.raises(UserError, match=f"{word}.*HISEG_IMAGENET_DIR"):
            data.class_spec(args, cfg)


def test_loaders_have_the_size_of_the_flags(root: Path) -> None:
    args, cfg = parsed(root, "--img_size", "48", "--bs_trn", "4", "--bs_val", "4")
    spec = data.class_spec(args, cfg)
    loader, sampler = data.make_train_loader(args, data.pictures(cfg, spec, "train"), 0, 1)
    assert [batch.images.shape for batch in loader] == [(4, 3, 48, 48)] * 3
    assert len(sampler) == 12
    scored = data.make_eval_loader(args, data.pictures(cfg, spec, "val"), 0, 1)
    assert [len(batch.images) for batch in scored] == [4, 2]


def test_augmented_images_are_written_for_looking_at(root: Path, tmp_path: Path) -> None:
    args, cfg = parsed(root, "--img_size", "40")
    train = data.pictures(cfg, data.class_spec(args, cfg), "train")
    assert data.dump_augmentations(args, train, tmp_path) == 9
    files = sorted(tmp_path.iterdir())
    assert files[4].name == "004_n00000001_n00000001_1.png"
    with Image.open(files[4]) as picture:
        assert picture.size == (40, 40)
