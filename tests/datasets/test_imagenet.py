# SPDX-License-Identifier: Apache-2.0
"""Class folders: what is listed, and what is wrong with a set in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from config import UserError
from datasets.imagenet import list_classes, list_split
from tests.class_folders import write_class_folders


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_class_folders(tmp_path / "set", size=8, train=3, val=1, classes=3)


CLASSES = ("n00000000", "n00000001", "n00000002")


def test_class_number_is_the_place_of_the_folder_in_the_sorted_list(root: Path) -> None:
    assert list_classes(root, "train") == CLASSES
    pictures = list_split(root, "train", CLASSES)
    assert pictures.targets.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert pictures.name(4) == "n00000001/n00000001_1.JPEG"
    assert pictures.path(4).is_file()
    assert len(pictures.first(2)) == 2 and len(pictures.first(None)) == 9


def test_other_files_hidden_ones_and_case_of_suffixes(root: Path) -> None:
    folder = root / "train" / CLASSES[0]
    (folder / "notes.txt").touch()
    (folder / "._n00000000_0.JPEG").touch()
    (folder / "a.jpg").touch()
    (folder / "b.PNG").touch()
    names = [list_split(root, "train", CLASSES).name(index) for index in range(5)]
    assert [name.split("/")[1] for name in names] == [
        "a.jpg", "b.PNG", "n00000000_0.JPEG", "n00000000_1.JPEG", "n00000000_2.JPEG",
    ]  # fmt: skip


def refusal(root: Path, split: str) -> str:
    with pytest.raises(UserError) as error:
        list_split(root, split, list_classes(root, "train"))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_empty_class_folder_is_named(root: Path) -> None:
    for path in (root / "train" / CLASSES[1]).iterdir():
        path.unlink()
    assert "train: n00000001 holds no image" in refusal(root, "train")


def test_many_empty_folders_are_counted(root: Path) -> None:
    for number in range(9):
        (root / "train" / f"n1000000{number}").mkdir()
    text = refusal(root, "train")
    assert "n10000000, n10000001, n10000002 and 6 more hold no image" in text


def test_validation_images_without_class_folders_have_no_labels(root: Path) -> None:
    for path in sorted((root / "val").rglob("*.JPEG")):
        path.rename(root / "val" / path.name)
    for folder in CLASSES:
        (root / "val" / folder).rmdir()
    assert "val: 3 images without labels" in refusal(root, "val")


def test_other_class_folders_than_in_training_are_named(root: Path) -> None:
    shutil.move(root / "val" / CLASSES[2], root / "val" / "n77777777")
    text = refusal(root, "val")
    assert "n00000002 missing" in text and "n77777777 not among the 3 classes" in text


def test_missing_split_and_empty_split_name_the_layout(root: Path) -> None:
    shutil.rmtree(root / "val")
    assert "val: cannot be read" in refusal(root, "val")
    (root / "val").mkdir()
    assert "one folder per class" in refusal(root, "val")


def test_fingerprint_follows_the_names(root: Path) -> None:
    before = list_split(root, "train", CLASSES).fingerprint()
    (root / "train" / CLASSES[0] / "n00000000_0.JPEG").unlink()
    after = list_split(root, "train", CLASSES).fingerprint()
    assert (before["images"], after["images"]) == (9, 8)
    assert before["digest"] != after["digest"]
