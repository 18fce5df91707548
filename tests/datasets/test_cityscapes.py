# SPDX-License-Identifier: Apache-2.0
"""Listing of the Cityscapes layout and its cross-validation."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets.base import DataError
from datasets.cityscapes import city_split, list_items


def cities_of(root: Path, split: str, cv: int = 0) -> list[str]:
    return list(dict.fromkeys(item.name.split("/")[0] for item in list_items(root, split, cv=cv)))


def test_items_pair_images_and_labels(cities: Path) -> None:
    item = list_items(cities, "train")[0]
    assert item.name == "alba/alba_000000_000019_leftImg8bit"
    assert item.label is not None
    assert item.label.name == "alba_000000_000019_gtFine_labelIds.png"
    assert "gtFine_trainvaltest/gtFine/train/alba" in str(item.label)


def test_test_split_has_labels_only_on_request(cities: Path) -> None:
    assert all(item.label is None for item in list_items(cities, "test"))
    assert all(item.label for item in list_items(cities, "test", test_labels=True))


def test_flat_layout_is_found(cities: Path) -> None:
    for name in ("leftImg8bit", "gtFine"):
        (cities / f"{name}_trainvaltest" / name).rename(cities / name)
    assert len(list_items(cities, "train")) == 4


def test_folds_of_a_small_set_exchange_cities(cities: Path) -> None:
    assert cities_of(cities, "val") == ["cork"]
    assert cities_of(cities, "val", cv=1) == ["alba"]
    assert cities_of(cities, "train", cv=1) == ["cork", "bonn"]
    assert cities_of(cities, "train", cv=3) == cities_of(cities, "val", cv=3)
    assert cities_of(cities, "trainval") == ["cork", "alba", "bonn"]


def test_unknown_fold_and_split_are_refused(cities: Path) -> None:
    with pytest.raises(DataError, match="--cv 4"):
        city_split(["a"], ["b"], "val", 4)
    with pytest.raises(DataError, match="no split valid"):
        list_items(cities, "valid")


def test_missing_label_is_found_while_listing(cities: Path) -> None:
    label = list_items(cities, "train")[0].label
    assert label is not None
    label.unlink()
    with pytest.raises(DataError, match=f"its label {label} is missing"):
        list_items(cities, "train")


def test_missing_folders_are_named(cities: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leftImg8bit_trainvaltest"):
        list_items(tmp_path / "nowhere", "train")
    for path in (cities / "leftImg8bit_trainvaltest/leftImg8bit/val/cork").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="for split val"):
        list_items(cities, "val")
