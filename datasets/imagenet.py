# SPDX-License-Identifier: Apache-2.0
"""Images in one folder per class, as in ImageNet.

    ROOT/train/n01440764/n01440764_10026.JPEG
    ROOT/val/n01440764/ILSVRC2012_val_00000293.JPEG

The number of a class is the place of its folder in the sorted list, which for the thousand classes
of ImageNet is the usual index.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datasets.places import located, scan
from datasets.skip import SkipList
from runtime.errors import UserError

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp")
LAYOUT = "ROOT/train and ROOT/val hold one folder per class (docs/imagenet.md)"


@dataclass(frozen=True, kw_only=True)
class ClassSpec:
    """Classes of a classification set: the names of its folders, in the order of their numbers."""

    name: str
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Number of classes that are predicted and scored."""
        return len(self.class_names)


@dataclass(frozen=True, kw_only=True)
class ImageList:
    """The images of one split, compact: ImageNet has 1.3 million.

    names: (N,) bytes, relative to `root`, the class folder first. targets: (N,) int32 classes.
    """

    root: Path
    names: npt.NDArray[np.bytes_]
    targets: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Relative path of an image, with its suffix."""
        return os.fsdecode(bytes(self.names[index]))

    def path(self, index: int) -> Path:
        """The file of an image."""
        return located(self.root / self.name(index))

    def first(self, count: int | None) -> ImageList:
        """The first `count` images, all with None."""
        return ImageList(root=self.root, names=self.names[:count], targets=self.targets[:count])

    def without(self, skip: SkipList) -> ImageList:
        """The images that are not in the list of known bad ones."""
        kept = [
            number
            for number in range(len(self))
            if not skip.has(os.path.splitext(self.name(number))[0], self.path(number))
        ]
        return ImageList(root=self.root, names=self.names[kept], targets=self.targets[kept])

    def fingerprint(self) -> dict[str, object]:
        """Number of images and a hash of their names, for run.json."""
        digest = hashlib.sha256(b"\n".join(self.names.tolist())).hexdigest()
        return {"images": len(self), "digest": digest}


def _folders_and_images(folder: Path) -> tuple[list[str], list[str]]:
    """Sorted names of the sub-folders and of the images directly in `folder`."""
    try:
        folders, files = scan(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}; {LAYOUT}") from error
    return folders, [name for name in files if name.lower().endswith(SUFFIXES)]


def list_classes(root: Path, split: str) -> tuple[str, ...]:
    """Names of the class folders of `split`, sorted.

    Raises UserError if there are none: images without class folders have no labels.
    """
    folder = root / split
    folders, images = _folders_and_images(folder)
    if folders:
        return tuple(folders)
    if images:
        raise UserError(
            f"{folder}: {len(images)} images without labels: they lie in no class folders; "
            "sort them into one folder per class, named as in train/"
        )
    raise UserError(f"{folder}: no class folders in it; {LAYOUT}")


def list_split(root: Path, split: str, classes: tuple[str, ...]) -> ImageList:
    """All images of `split`, class after class, sorted.

    `classes` are the folders it must have. Raises UserError for an empty class folder, and for
    folders that are missing or not among the classes.
    """
    images, problems = scan_split(root, split, classes)
    if problems:
        raise UserError(problems[0])
    return images


def scan_split(root: Path, split: str, classes: tuple[str, ...]) -> tuple[ImageList, list[str]]:
    """The images that `split` has of `classes`, and why these are not all, one line per reason.

    Raises UserError if it has no class folders.
    """
    found = list_classes(root, split)
    problems = _other_folders(root / split, found, classes)
    present = set(found)
    names: list[bytes] = []
    counts, empty = [], []
    for wnid in classes:
        images = _folders_and_images(root / split / wnid)[1] if wnid in present else []
        names += [os.fsencode(f"{wnid}/{image}") for image in images]
        counts.append(len(images))
        if not images and wnid in present:
            empty.append(wnid)
    if empty:
        problems.append(
            f"{root / split}: {_listed(empty)} hold{'s' if len(empty) == 1 else ''} no image "
            f"({', '.join(SUFFIXES)}); fill the folder, or remove it from train/ and val/"
        )
    targets = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    listed = np.array(names, dtype=np.bytes_)
    return ImageList(root=root / split, names=listed, targets=targets), problems


def _other_folders(folder: Path, found: tuple[str, ...], wanted: tuple[str, ...]) -> list[str]:
    """One line if the class folders are not the expected ones."""
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    parts = [f"{_listed(missing)} missing"] if missing else []
    parts += [f"{_listed(extra)} not among the {len(wanted)} classes"] if extra else []
    text = f"{folder}: class folders differ from those of training: {'; '.join(parts)}"
    return [text] if parts else []


def _listed(names: list[str]) -> str:
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")
