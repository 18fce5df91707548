# SPDX-License-Identifier: Apache-2.0
"""Images in one folder per class, as in ImageNet.

    ROOT/train/n01440764/n01440764_10026.JPEG
    ROOT/val/n01440764/ILSVRC2012_val_00000293.JPEG

    ROOT/ILSVRC2012_img_train.tar, ROOT/ILSVRC2012_img_val.tar     as they are downloaded
    ROOT/ILSVRC2012_devkit_t12.tar.gz                              classes of the images of val

The number of a class is the place of its folder in the sorted list, which for the thousand classes
of ImageNet is the usual index.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datasets.imagenet_devkit import ARCHIVE, val_classes
from datasets.places import entered, located, scan
from datasets.skip import SkipList
from runtime.errors import UserError
from runtime.limits import counted

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp")
ARCHIVES = ("ILSVRC2012_img_{}.tar", "{}.tar", "{}.zip")  # that stand for the folder of a split
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
    is_flat: there are no class folders, the files lie directly in `root`.
    """

    root: Path
    names: npt.NDArray[np.bytes_]
    targets: npt.NDArray[np.int32]
    is_flat: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Relative path of an image, with its suffix."""
        return os.fsdecode(bytes(self.names[index]))

    def path(self, index: int) -> Path:
        """The file of an image."""
        name = self.name(index)
        return located(self.root / (os.path.basename(name) if self.is_flat else name))

    def first(self, count: int | None) -> ImageList:
        """The first `count` images, all with None."""
        return self._only(slice(count))

    def _only(self, chosen: slice | list[int]) -> ImageList:
        return replace(self, names=self.names[chosen], targets=self.targets[chosen])

    def without(self, skip: SkipList) -> ImageList:
        """The images that are not in the list of known bad ones."""
        kept = [
            number
            for number in range(len(self))
            if not skip.has(os.path.splitext(self.name(number))[0], self.path(number))
        ]
        return self._only(kept)

    def fingerprint(self) -> dict[str, object]:
        """Number of images and a hash of their names, for run.json."""
        digest = hashlib.sha256(b"\n".join(self.names.tolist())).hexdigest()
        return {"images": len(self), "digest": digest}


def split_folder(root: Path, split: str) -> Path:
    """The folder of a split, or the archive that stands for it where there is none."""
    archives = (root / name.format(split) for name in ARCHIVES)
    if not (root / split).is_dir() and (found := next(filter(Path.is_file, archives), None)):
        return entered(found)
    return root / split


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
    folder = split_folder(root, split)
    folders, images = _folders_and_images(folder)
    if folders:
        return tuple(folders)
    if images:
        known = val_classes(root)
        if not known:
            raise UserError(
                f"{folder}: {counted(len(images), 'image')} without labels, in no class folders; "
                f"sort them into one folder per class, named as in train/, or put {ARCHIVE} into "
                f"{root}"
            )
        return tuple(sorted(set(known.values())))
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
    folder = split_folder(root, split)
    problems = _other_folders(folder, found, classes)
    present = set(found)
    names: list[bytes] = []
    counts, empty = [], []
    folders, loose = _folders_and_images(folder)
    by_class = {} if folders else _by_class(loose, val_classes(root))
    for wnid in classes:
        images = by_class.get(wnid, [])
        if folders and wnid in present:
            images = _folders_and_images(folder / wnid)[1]
        names += [os.fsencode(f"{wnid}/{image}") for image in images]
        counts.append(len(images))
        if not images and wnid in present:
            empty.append(wnid)
    if empty:
        problems.append(
            f"{folder}: {_listed(empty)} hold{'s' if len(empty) == 1 else ''} no image "
            f"({', '.join(SUFFIXES)}); fill the folder, or remove it from train/ and val/"
        )
    targets = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    listed = np.array(names, dtype=np.bytes_)
    is_flat = not folders
    if is_flat and len(names) < len(loose):
        problems.append(
            f"{folder}: no class in the devkit for {counted(len(loose) - len(names), 'image')}"
        )
    return ImageList(root=folder, names=listed, targets=targets, is_flat=is_flat), problems


def _by_class(images: list[str], classes: dict[str, str]) -> dict[str, list[str]]:
    """Class -> images without class folders, by what the devkit says of them."""
    found: dict[str, list[str]] = {}
    for image in images:
        if (wnid := classes.get(os.path.splitext(image)[0])) is not None:
            found.setdefault(wnid, []).append(image)
    return found


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
