# SPDX-License-Identifier: Apache-2.0
"""CamVid in the SegNet split: 11 classes and void, 360 x 480 frames.

    ROOT/{train,val,test}.txt            an image and its label a line
    ROOT/{train,val,test}/*              images
    ROOT/{train,val,test}annot/*.png     labels, ids 0..10 and 11 for void

The list files decide where they exist; paths in them may be relative to ROOT or the absolute
ones of the original lists. Without them images and labels are paired by their stem.

Source: Brostow, Fauqueur, Cipolla, Pattern Recognition Letters 2009; split and classes of
Badrinarayanan, Kendall, Cipolla, "SegNet", PAMI 2017.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from datasets.base import DataError
from datasets.folder import is_image
from datasets.spec import LABELS_DIR, Item, read_spec_csv

SPEC = read_spec_csv(LABELS_DIR / "camvid.csv", "camvid")
PARTS = {"train": ("train",), "val": ("val",), "test": ("test",), "trainval": ("train", "val")}


def list_items(root: Path, split: str) -> list[Item]:
    """The frames of "train", "val", "test" or "trainval".

    Raises DataError for an unknown split, a missing folder, and an image without a label.
    """
    if split not in PARTS:
        raise DataError(f"camvid has no split {split}; one of {', '.join(PARTS)} wanted")
    items = [item for part in PARTS[split] for item in _list_part(root, part)]
    if not items:
        raise DataError(f"{root}: no images for split {split}")
    return items


def _list_part(root: Path, part: str) -> list[Item]:
    listing = root / f"{part}.txt"
    pairs = _listed_pairs(root, listing) if listing.is_file() else _folder_pairs(root, part)
    items = []
    for image, label in pairs:
        for path, what in ((image, "image"), (label, f"label of {image}")):
            if not path.is_file():
                raise DataError(f"{path}: {what} is missing")
        items.append(Item(name=image.stem, image=image, label=label))
    return items


def _listed_pairs(root: Path, listing: Path) -> list[tuple[Path, Path]]:
    pairs = []
    for number, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), 1):
        words = line.replace(";", " ").split()
        if not words:
            continue
        if len(words) != 2:
            raise DataError(f"{listing}: line {number} is no pair of an image and a label: {line}")
        pairs.append((_locate(root, words[0]), _locate(root, words[1])))
    return pairs


def _locate(root: Path, text: str) -> Path:
    """A listed path below `root`; of the original absolute paths the last two parts count."""
    path = PurePosixPath(text)
    return root.joinpath(*path.parts[-2:]) if path.is_absolute() else root / path


def _folder_pairs(root: Path, part: str) -> list[tuple[Path, Path]]:
    images, labels = root / part, root / f"{part}annot"
    for folder in (images, labels):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder (and no {part}.txt beside it)")
    by_stem = {path.stem: path for path in labels.iterdir() if is_image(path)}
    return [
        (path, by_stem.get(path.stem, labels / f"{path.stem}.png"))
        for path in sorted(images.iterdir())
        if is_image(path)
    ]
