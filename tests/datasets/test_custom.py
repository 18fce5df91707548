# SPDX-License-Identifier: Apache-2.0
"""Own data sets described by a YAML file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from datasets.base import DataError, SegmentationDataset
from datasets.custom import list_items, make_spec
from tests.datasets.conftest import save


@pytest.fixture
def harbour(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for name in ("quay/a", "b"):
            save(tmp_path / split / "rgb" / f"{name}_rgb.png", np.zeros((8, 9, 3), np.uint8))
            ids = np.array([[7, 8, 0]] * 8, np.uint8).repeat(3, 1)
            save(tmp_path / split / "ids" / f"{name}_mask.png", ids)
    return describe(tmp_path / "harbour.yml")


def describe(path: Path, **changes: object) -> Path:
    tree: dict[str, object] = {
        "names": ["water", "quay"],
        "ids": {7: 0, 8: 1, 0: 255},
        "image_suffix": "_rgb",
        "label_suffix": "_mask",
        "splits": {
            "train": {"images": "train/rgb", "labels": "train/ids"},
            "val": {"images": "val/**/*_rgb.png", "labels": "val/**/*_mask.png"},
            "test": {"images": "val/rgb"},
        },
    }
    tree.update(changes)
    kept = {key: value for key, value in tree.items() if value is not None}
    path.write_text(yaml.safe_dump(kept))
    return path


def test_spec_comes_from_the_file(harbour: Path) -> None:
    spec = make_spec(harbour)
    assert (spec.name, spec.class_names, spec.train_id_to_id) == (
        "harbour", ("water", "quay"), (7, 8),
    )  # fmt: skip
    assert spec.lut()[[7, 8, 0, 1]].tolist() == [0, 1, 255, -1]
    assert len(set(spec.palette)) == 2


def test_folders_and_suffixes_pair(harbour: Path) -> None:
    items = list_items(harbour, "train")
    assert [item.name for item in items] == ["b", "quay/a"]
    sample = SegmentationDataset(items, make_spec(harbour))[1]
    assert sample.label is not None
    assert sample.label[0].tolist() == [0, 0, 0, 1, 1, 1, 255, 255, 255]


def test_patterns_pair_when_images_and_labels_differ_in_folder(harbour: Path) -> None:
    splits = {"val": {"images": "val/rgb/**/*.png", "labels": "val/ids/**/*.png"}}
    items = list_items(describe(harbour, splits=splits), "val")
    assert [item.name for item in items] == ["b", "quay/a"]


def test_split_without_labels_is_allowed(harbour: Path) -> None:
    assert all(item.label is None for item in list_items(harbour, "test"))


def test_ids_default_to_the_classes_themselves(harbour: Path) -> None:
    lut = make_spec(describe(harbour, ids=None)).lut()
    assert lut[[0, 1, 255, 2]].tolist() == [0, 1, 255, -1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clases": 3}, ["unknown key clases"]),
        ({"nams": ["a"]}, ["unknown key nams", "names"]),
        ({"names": "water"}, ["names", "list"]),
        ({"names": ["a", "a"]}, ["names", "once"]),
        ({"names": None}, ["names is missing"]),
        ({"ids": [1]}, ["ids must be a mapping"]),
        ({"ids": {7: "water"}}, ["ids: 7", "whole number"]),
        ({"ids": {7: 5}}, ["ids: 7", "neither a class 0..1"]),
        ({"ids": {7: 0}}, ["ids maps nothing to quay"]),
        ({"ids": {1 << 40: 0}}, ["ids: key", "1099511627776"]),
        ({"palette": [[0, 0, 0]]}, ["palette", "2 colours"]),
        ({"palette": [[0, 0], [1, 1, 1]]}, ["palette: row 0"]),
        ({"palette": [[0, 0, 300], [1, 1, 1]]}, ["palette: row 0", "300"]),
        ({"ignore": 1}, ["ignore", "2..255"]),
        ({"image_suffix": 3}, ["image_suffix must be text"]),
        ({"splits": 3}, ["splits must be a mapping"]),
        ({"splits": {"val": {}}}, ["splits has no train (there is val)"]),
        ({"splits": {"train": {"image": "x"}}}, ["unknown key splits: train: image", "images"]),
        ({"splits": {"train": {"labels": "train/ids"}}}, ["splits: train needs images"]),
        ({"splits": {"train": {"images": 3}}}, ["splits: train: images", "folder or a pattern"]),
        ({"splits": {"train": {"images": "absent"}}}, ["splits: train: images", "not a folder"]),
        ({"splits": {"train": {"images": "train/*.jpg"}}}, ["finds no images"]),
    ],
)
def test_mistakes_name_key_and_file(harbour: Path, changes: dict, words: list[str]) -> None:
    describe(harbour, **changes)
    with pytest.raises(DataError) as raised:
        make_spec(harbour)
        list_items(harbour, "train")
    for word in [str(harbour), *words]:
        assert word in str(raised.value)
    assert "\n" not in str(raised.value)


def test_image_without_label_is_named(harbour: Path) -> None:
    (harbour.parent / "train/ids/b_mask.png").unlink()
    with pytest.raises(DataError, match=r"b_rgb\.png: no label b in train/ids"):
        list_items(harbour, "train")


def test_file_that_is_no_yaml_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_text("names: [a\nb: {")
    with pytest.raises(DataError) as raised:
        make_spec(path)
    assert "\n" not in str(raised.value)
