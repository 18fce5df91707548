# SPDX-License-Identifier: Apache-2.0
"""GTA V ("Playing for Data"): the 19 classes of Cityscapes, labels in their colours.

    ROOT/images/{train,val}/FOLDER/X.png
    ROOT/labels/{train,val}/FOLDER/X.png     RGB or palette; other colours are ignored

Folders are what cities are in Cityscapes: the folds of the cross-validation exchange them.

Source: Richter et al., "Playing for Data: Ground Truth from Computer Games", ECCV 2016.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from datasets import cityscapes
from datasets.base import DataError
from datasets.cityscapes import city_split
from datasets.spec import IGNORE, Item

SPLITS = ("train", "val")
SPEC = dataclasses.replace(
    cityscapes.SPEC,
    name="gtav",
    id_to_train_id={**{number: number for number in range(19)}, IGNORE: IGNORE},
    train_id_to_id=tuple(range(19)),
    color_to_id={color: number for number, color in enumerate(cityscapes.SPEC.palette)},
)


def list_items(root: Path, split: str, *, cv: int = 0, cv_splits: int = 3) -> list[Item]:
    """The frames of "train" or "val" in the order of their folders and names.

    cv: fold of the cross-validation over folders, see `cityscapes.city_split`.
    Raises DataError for a folder that is not there, an empty split, and an image without label.
    """
    if split not in SPLITS:
        raise DataError(f"gtav has no split {split}; one of {', '.join(SPLITS)} wanted")
    images, labels = root / "images", root / "labels"
    folders = city_split(_folders(images / "train"), _folders(images / "val"), split, cv, cv_splits)
    items = []
    for part, folder in folders:
        for image in sorted((images / part / folder).glob("*.png")):
            label = labels / part / folder / image.name
            if not label.is_file():
                raise DataError(f"{image}: its label {label} is missing")
            items.append(Item(name=f"{folder}/{image.stem}", image=image, label=label))
    if not items:
        raise DataError(f"{images}: no */*.png for split {split}")
    return items


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
