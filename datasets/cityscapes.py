# SPDX-License-Identifier: Apache-2.0
"""Cityscapes: the fine annotations, with the cross-validation over cities, and the extra images.

    ROOT/leftImg8bit_trainvaltest/leftImg8bit/{train,val,test}/CITY/*_leftImg8bit.png
    ROOT/gtFine_trainvaltest/gtFine/{train,val,test}/CITY/*_gtFine_labelIds.png
    ROOT/leftImg8bit_trainextra/leftImg8bit/train_extra/CITY/*_leftImg8bit.png
    ROOT/gtCoarse/gtCoarse/train_extra/CITY/*_gtCoarse_labelIds.png
    AUTO_ROOT/train_extra/CITY/*_leftImg8bit.png, *_leftImg8bit_prob.png

The outer folders may be missing (ROOT/leftImg8bit, ROOT/gtFine), as the archives unpack. AUTO_ROOT
is a folder of its own: ids and confidences that a network gave the extra images. Frames of the
recordings around the labelled ones, with labels from any source, may lie in another root of the
same layout.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from datasets.base import DataError
from datasets.listing import Items, Pairing, entries, images_in
from datasets.spec import LABELS_DIR, AutoLabel, Item, read_spec_csv

SPEC = read_spec_csv(LABELS_DIR / "cityscapes.csv", "cityscapes")
SPLITS = ("train", "val", "trainval", "test")
IMAGE_END, LABEL_END, COARSE_END = "_leftImg8bit", "_gtFine_labelIds", "_gtCoarse_labelIds"
EXTRA = "train_extra"

City = tuple[str, str]  # (split folder, city)


def list_items(
    root: Path, split: str, *, cv: int = 0, cv_splits: int = 3, test_labels: bool = False
) -> Items:
    """The images of a split in the order of their cities and names.

    cv: fold of the city cross-validation for "train" and "val", see `city_split`.
    test_labels: the labels of "test" hold nothing in the real set and are left out unless asked.
    Raises DataError for a missing folder and an image without a label.
    """
    if split not in SPLITS:
        raise DataError(f"cityscapes has no split {split}; one of {', '.join(SPLITS)} wanted")
    images = _top_folder(root, "leftImg8bit")
    if split == "test":
        cities = [("test", city) for city in entries(images / "test")[0]]
    else:
        train, val = entries(images / "train")[0], entries(images / "val")[0]
        cities = city_split(train, val, split, cv, cv_splits)
    needs_labels = split != "test" or test_labels
    labels = _top_folder(root, "gtFine") if needs_labels else None
    pairing = Pairing(f"{LABEL_END}.png")
    for city in cities:
        for image in images_in(images.joinpath(*city), f"{IMAGE_END}.png"):
            frame = image.name.removesuffix(f"{IMAGE_END}.png")
            label = None if labels is None else labels.joinpath(*city, f"{frame}{LABEL_END}.png")
            pairing.add(f"{city[1]}/{image.stem}", image, label)
    return pairing.finish(f"{images}: no *{IMAGE_END}.png for split {split}")


def city_split(
    train: list[str], val: list[str], split: str, cv: int, cv_splits: int = 3
) -> list[City]:
    """The cities of a split in fold `cv`, as (folder, city).

    All cities form a list, those of val first; val takes as many of them as the published val has,
    from position cv * len // cv_splits on, and train the rest. Fold 0 is therefore the published
    split. cv = cv_splits: every city is in both, as in "trainval".
    """
    if not 0 <= cv <= cv_splits:
        raise DataError(f"--cv {cv}: a fold 0..{cv_splits - 1} wanted, or {cv_splits} for all")
    cities = [("val", city) for city in sorted(val)] + [("train", city) for city in sorted(train)]
    if split == "trainval" or cv == cv_splits:
        return cities
    start = cv * len(cities) // cv_splits
    held_out = cities[start : start + len(val)]
    return held_out if split == "val" else [city for city in cities if city not in held_out]


def list_extra(root: Path) -> list[Item]:
    """The extra training images without labels; names keep the folder train_extra.

    Raises DataError when there are none.
    """
    folder = _top_folder(root, "leftImg8bit", "leftImg8bit_trainextra") / EXTRA
    items = []
    for city in entries(folder)[0]:
        items += [
            Item(name=f"{EXTRA}/{city}/{image.stem}", image=image, label=None)
            for image in images_in(folder / city, f"{IMAGE_END}.png")
        ]
    if not items:
        raise DataError(f"{folder}: no */*{IMAGE_END}.png: the coarse split is empty")
    return items


def list_video(root: Path, items: list[Item], skip: int) -> list[Item]:
    """The frames `skip` before and after each of `items`, where image and label are in `root`.

    Raises DataError when there are none.
    """
    images, labels = _top_folder(root, "leftImg8bit"), _top_folder(root, "gtFine")
    found = []
    for item in items:
        city, recording = item.image.parent.name, item.image.stem.removesuffix(IMAGE_END)
        start, _, number = recording.rpartition("_")
        for frame in (int(number) - skip, int(number) + skip):
            stem = f"{start}_{frame:06d}"
            folder = Path(item.image.parent.parent.name, city)
            image = images / folder / f"{stem}{IMAGE_END}.png"
            label = labels / folder / f"{stem}{LABEL_END}.png"
            if image.is_file() and label.is_file():
                found.append(Item(name=f"{city}/{image.stem}", image=image, label=label))
    if not found:
        raise DataError(
            f"{root}: no frame {skip} before or after a labelled one (--maxSkip {skip}), with "
            f"image and label"
        )
    return found


def list_coarse(root: Path) -> list[Item]:
    """The extra training images with the annotators' coarse labels, not divided into folds."""
    labels = _top_folder(root, "gtCoarse", "gtCoarse")
    return [
        dataclasses.replace(item, label=_existing(_coarse_label(labels, item), item, "label"))
        for item in list_extra(root)
    ]


def list_auto(root: Path, auto_root: Path, rules: AutoLabel) -> list[Item]:
    """The extra training images with the labels that a network gave them, under `auto_root`.

    rules: threshold, union classes and mask; the files that they need are filled in here.
    Raises DataError for an image without a label, or without one of these files.
    """
    coarse = _top_folder(root, "gtCoarse", "gtCoarse") if rules.union_classes else None
    items = []
    for item in list_extra(root):
        label = _existing(auto_root / f"{item.name}.png", item, "auto label")
        prob = union = None
        if rules.threshold is not None:
            prob = _existing(auto_root / f"{item.name}_prob.png", item, "probability")
        if coarse is not None:
            union = _existing(_coarse_label(coarse, item), item, "coarse label")
        auto = dataclasses.replace(rules, prob=prob, coarse=union)
        items.append(dataclasses.replace(item, label=label, auto=auto))
    return items


def _coarse_label(labels: Path, item: Item) -> Path:
    return labels / f"{item.name.removesuffix(IMAGE_END)}{COARSE_END}.png"


def _existing(path: Path, item: Item, what: str) -> Path:
    if not path.is_file():
        raise DataError(f"{item.image}: its {what} {path} is missing")
    return path


def _top_folder(root: Path, name: str, outer: str = "") -> Path:
    nested, flat = root / (outer or f"{name}_trainvaltest") / name, root / name
    for folder in (nested, flat):
        if folder.is_dir():
            return folder
    raise DataError(f"{root}: no folder {nested.relative_to(root)} (nor {name}) in it")
