# SPDX-License-Identifier: Apache-2.0
"""BDD100K, the semantic segmentation part: the 19 classes of Cityscapes, 720 x 1280 frames.

    ROOT/images/{train,val,test}/X.jpg
    ROOT/labels/{train,val}/X_train_id.png     train ids 0..18, 255 is ignored

The benchmark server takes train ids too, so raw ids are train ids here.

Source: Yu et al., "BDD100K: A Diverse Driving Dataset", CVPR 2020.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from datasets import cityscapes
from datasets.base import DataError
from datasets.folder import is_image
from datasets.spec import IGNORE, Item

SPLITS = ("train", "val", "test")
LABEL_END = "_train_id"
SPEC = dataclasses.replace(
    cityscapes.SPEC,
    name="bdd100k",
    id_to_train_id={**{number: number for number in range(19)}, IGNORE: IGNORE},
    train_id_to_id=tuple(range(19)),
)


def list_items(root: Path, split: str) -> list[Item]:
    """The frames of "train", "val" or "test" by name; the test split has no labels.

    Raises DataError for an unknown split, a missing folder, an empty split, and an image without
    label.
    """
    if split not in SPLITS:
        raise DataError(f"bdd100k has no split {split}; one of {', '.join(SPLITS)} wanted")
    images, labels = root / "images" / split, root / "labels" / split
    for folder in (images,) if split == "test" else (images, labels):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
    items = []
    for image in sorted(path for path in images.iterdir() if is_image(path)):
        label = None if split == "test" else labels / f"{image.stem}{LABEL_END}.png"
        if label is not None and not label.is_file():
            raise DataError(f"{image}: its label {label} is missing")
        items.append(Item(name=image.stem, image=image, label=label))
    if not items:
        raise DataError(f"{images}: no pictures for split {split}")
    return items
