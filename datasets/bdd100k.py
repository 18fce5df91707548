# SPDX-License-Identifier: Apache-2.0
"""BDD100K, the semantic segmentation part: the 19 classes of Cityscapes, 720 x 1280 frames.

    ROOT/images/10k/{train,val,test}/X.jpg          as downloaded today
    ROOT/labels/sem_seg/masks/{train,val}/X.png     train ids 0..18, 255 is ignored

    ROOT/images/{train,val,test}/X.jpg              as downloaded before, or ROOT/seg/images
    ROOT/labels/{train,val}/X_train_id.png

The folders tell which of the two it is. ROOT may also be the folder that contains bdd100k.
The benchmark server takes train ids too, so raw ids are train ids here.

Source: Yu et al., "BDD100K: A Diverse Driving Dataset", CVPR 2020.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from datasets import cityscapes
from datasets.base import DataError
from datasets.listing import Items, Pairing, images_in
from datasets.spec import IGNORE

SPLITS = ("train", "val", "test")
LABEL_END = "_train_id"
IMAGE_FOLDERS = ("images", "images/10k", "seg/images")
LABEL_FOLDERS = ("labels", "labels/sem_seg/masks", "seg/labels")
OUTER = "bdd100k"  # the folder that the archives unpack to
SPEC = dataclasses.replace(
    cityscapes.SPEC,
    name="bdd100k",
    id_to_train_id={**{number: number for number in range(19)}, IGNORE: IGNORE},
    train_id_to_id=tuple(range(19)),
)


def list_items(root: Path, split: str) -> Items:
    """The frames of "train", "val" or "test" by name; the test split has no labels.

    Raises DataError for an unknown split, a missing folder, an empty split, and an image without a
    label.
    """
    if split not in SPLITS:
        raise DataError(f"bdd100k has no split {split}; one of {', '.join(SPLITS)} wanted")
    images = _folder(root, IMAGE_FOLDERS, split)
    frames = images_in(images)
    labels = None if split == "test" else _folder(root, LABEL_FOLDERS, split)
    end = ".png" if labels is None else _label_end(labels)
    pairing = Pairing(end)
    for image in frames:
        pairing.add(image.stem, image, None if labels is None else labels / f"{image.stem}{end}")
    return pairing.finish(f"{images}: no images for split {split}")


def _folder(root: Path, names: tuple[str, ...], split: str) -> Path:
    """The folder of `split` in the layout that is there; DataError without any."""
    for base in (root, root / OUTER):
        for name in names:
            if (base / name / split).is_dir():
                return base / name / split
    raise DataError(f"{root / names[0] / split}: no such folder (nor {names[1]}/{split})")


def _label_end(labels: Path) -> str:
    """The names of label files in this layout."""
    old = f"{LABEL_END}.png"
    return old if images_in(labels, old) else ".png"
