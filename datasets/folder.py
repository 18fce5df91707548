# SPDX-License-Identifier: Apache-2.0
"""A folder of pictures without labels: any mix of formats and sizes, sub-folders included."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from datasets.base import DataError
from datasets.spec import Item

# Endings that Pillow or OpenCV decode; other files of a folder (notes, lists) are passed over.
IMAGE_ENDINGS = frozenset((
    ".bmp", ".dib", ".gif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm",
    ".ppm", ".tga", ".tif", ".tiff", ".webp",
))  # fmt: skip


def is_image(path: Path) -> bool:
    """Whether the name looks like a picture; hidden files do not count."""
    return path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".")


def find_images(root: Path) -> list[Path]:
    """Every picture below `root` in the order of the paths; hidden folders are left out."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [path for name in files if is_image(path := Path(folder, name))]
    return sorted(found)


def list_items(root: Path, split: str = "all") -> list[Item]:
    """All pictures below `root`, without labels; `split` is not looked at.

    Names are the paths below `root` without ending; where two files differ in nothing but the
    ending (a.jpg, a.png) it stays part of the name (a_jpg, a_png).
    Raises DataError when there is no folder or no picture in it.
    """
    del split
    if not root.is_dir():
        raise DataError(f"--eval_folder {root}: no such folder")
    images = find_images(root)
    if not images:
        raise DataError(
            f"--eval_folder {root}: holds no pictures ({', '.join(sorted(IMAGE_ENDINGS))})"
        )
    stems = Counter(path.with_suffix("") for path in images)
    items = []
    for path in images:
        stem = path.relative_to(root).with_suffix("").as_posix()
        if stems[path.with_suffix("")] > 1:
            stem += path.suffix.replace(".", "_")
        items.append(Item(name=stem, image=path, label=None))
    return items


def paired_items(images: Path, labels: Path | None) -> list[Item]:
    """The pictures below `images` by path, each with the PNG of its path below `labels`.

    Without `labels` the items have none. Raises DataError for a missing folder, one without
    pictures, and a picture without label.
    """
    if not images.is_dir():
        raise DataError(f"{images}: no such folder")
    items = []
    for image in find_images(images):
        name = image.relative_to(images).with_suffix("")
        label = None if labels is None else labels / f"{name}.png"
        if label is not None and not label.is_file():
            raise DataError(f"{image}: its label {label} is missing")
        items.append(Item(name=name.as_posix(), image=image, label=label))
    if not items:
        raise DataError(f"{images}: no pictures there")
    return items
