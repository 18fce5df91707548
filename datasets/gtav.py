# SPDX-License-Identifier: Apache-2.0
"""GTA V ("Playing for Data"): the 19 classes of Cityscapes, labels in their colours.

    ROOT/images/{train,val}/FOLDER/X.png
    ROOT/labels/{train,val}/FOLDER/X.png     RGB or palette; other colours are ignored

Folders play the role of the cities of Cityscapes: the folds of the cross-validation exchange them.

Source: Richter et al., "Playing for Data: Ground Truth from Computer Games", ECCV 2016.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from datasets import cityscapes
from datasets.base import DataError
from datasets.cityscapes import city_split
from datasets.listing import Items, Pairing, entries, images_in
from datasets.spec import IGNORE
from datasets.table import TABLE

SPLITS = TABLE["gtav"].splits
SPEC = dataclasses.replace(
    cityscapes.SPEC,
    name="gtav",
    id_to_train_id={**{number: number for number in range(19)}, IGNORE: IGNORE},
    train_id_to_id=tuple(range(19)),
    color_to_id={color: number for number, color in enumerate(cityscapes.SPEC.palette)},
)


def list_items(root: Path, split: str, *, cv: int = 0, cv_splits: int = 3) -> Items:
    """The frames of "train" or "val" in the order of their folders and names.

    cv: fold of the cross-validation over folders, see `cityscapes.city_split`.
    Raises DataError for a missing folder, an empty split, and an image without a label.
    """
    if split not in SPLITS:
        raise DataError(f"gtav has no split {split}; one of {', '.join(SPLITS)} wanted")
    images, labels = root / "images", root / "labels"
    train, val = entries(images / "train")[0], entries(images / "val")[0]
    pairing = Pairing()
    for part, folder in city_split(train, val, split, cv, cv_splits):
        for image in images_in(images / part / folder, ".png"):
            label = labels / part / folder / image.name
            pairing.add(f"{folder}/{image.stem}", image, label)
    return pairing.finish(f"{images}: no */*.png for split {split}")
