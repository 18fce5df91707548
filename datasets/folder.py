# SPDX-License-Identifier: Apache-2.0
"""Images and videos without labels: a folder with its sub-folders, one file, or a list of files."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from datasets import list_files
from datasets.base import DataError
from datasets.listing import (
    IMAGE_ENDINGS,
    Items,
    Pairing,
    distinct_names,
    find,
    stems_below,
)
from datasets.places import at, is_folder
from datasets.spec import Item

LIST_ENDINGS = (".txt", ".lst")
# The files of a run directory, and the folders in it that hold what a run wrote.
RUN_FILES = ("run.json", "status.json")
OUTPUT_FOLDERS = ("best_images", "submit")
TREE_FOLDERS = ("ids", "scores", "masks", "color", "composite")
TREE_LISTS = (".trees-*.jsonl", ".videos-*.jsonl")  # what tells that a run wrote such folders


def list_items(
    place: Path,
    split: str = "all",
    results: Path | None = None,
    *,
    asked: str = "--eval_folder ",
) -> Items:
    """The images of `place`, then its videos, without labels; `split` is ignored.

    A folder stands for all images below it, a text file for those that it lists, one per line.
    Names are the paths below the folder without the ending; if two files differ only in the ending
    (a.jpg, a.png), it stays part of the name (a_jpg, a_png), and so does that of a video beside a
    folder of images with its name. What a run of this program wrote is left out: run directories
    below the folder, and `results`, the one of this run.
    Raises DataError if `place` does not exist or contains neither images nor videos; `asked` is
    the flag that it names.
    """
    del split
    place = at(place)
    if place.is_dir():
        return _below(place, results, asked)
    if not place.exists():
        raise DataError(f"{asked}{place}: no such folder, image, video or list of them")
    if place.suffix.lower() in LIST_ENDINGS:
        return list_files.image_list(place)
    return Items([Item(name=place.stem, image=place, label=None)])


def _below(root: Path, results: Path | None, asked: str) -> Items:
    own = own_outputs(root, results)
    found = find(root, own, videos=True)
    if not found.images and not found.videos:
        left = f"; {', '.join(found.notes())}" if found.strange else ""
        raise DataError(
            f"{asked}{root}: holds no images ({', '.join(sorted(IMAGE_ENDINGS))}) and no "
            f"videos{left}"
        )
    names = distinct_names(found.images, root)
    names += video_names(found.videos, root, names)
    notes = found.notes()
    if own:
        listed = ", ".join(sorted(own)[:3]) + (", ..." if len(own) > 3 else "")
        notes.append(f"results of this program are not input and are left out: {listed}")
    return Items(
        [
            Item(name=name, image=path, label=None)
            for name, path in zip(names, [*found.images, *found.videos], strict=True)
        ],
        notes,
    )


def video_names(videos: list[Path], root: Path, images: list[str]) -> list[str]:
    """Names of videos: each also names the folder of its frames, where nothing else may lie."""
    own = distinct_names(videos, root)
    pictures = {os.path.dirname(name) for name in images} | set(images)
    taken = pictures.union(own)
    found = []
    for name, path in zip(own, videos, strict=True):
        if name in pictures:
            while name in taken:
                name += path.suffix.replace(".", "_")
            taken.add(name)
        found.append(name)
    return found


def own_outputs(root: Path, results: Path | None) -> Collection[str]:
    """Real paths of the folders below `root` that runs wrote, `results` first."""
    own = set()
    top = os.path.realpath(root)
    if results is not None:
        real = os.path.realpath(results)
        if real == top:
            has_trees = any(any(results.glob(pattern)) for pattern in TREE_LISTS)
            names = OUTPUT_FOLDERS + (TREE_FOLDERS if has_trees else ())
            own |= {os.path.join(real, name) for name in names}
        elif real.startswith(top + os.sep):
            own.add(real)
    pending = [str(root)]
    seen = {top}
    while pending:
        folder = pending.pop()
        for path in _sub_folders(folder):
            real = os.path.realpath(path)
            if real in seen or real in own:
                continue
            seen.add(real)
            if all(os.path.isfile(os.path.join(path, name)) for name in RUN_FILES):
                own.add(real)
            else:
                pending.append(path)
    return {path for path in own if os.path.isdir(path)}


def _sub_folders(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as found:
            return [entry.path for entry in found if is_folder(entry) and entry.name[0] != "."]
    except OSError:
        return []


def paired_items(images: Path, labels: Path | None) -> Items:
    """The images below `images` by path, each with the PNG of its path below `labels`.

    Without `labels` the items have none. Raises DataError for a missing folder, one without
    images, and images without a label.
    """
    found = find(images)
    pairing = Pairing()
    for name, image in zip(stems_below(found.images, images), found.images, strict=True):
        pairing.add(name, image, None if labels is None else type(labels)(f"{labels}/{name}.png"))
    return pairing.finish(f"{images}: no images there")
