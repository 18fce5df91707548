# SPDX-License-Identifier: Apache-2.0
"""The files of one split of a custom set: folders, patterns, or a list; see `datasets.custom`."""

from __future__ import annotations

import fnmatch
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from datasets.base import DataError
from datasets.list_files import Line, common_folder, faults_text, locate, read_lines, split_pair
from datasets.listing import (
    Items,
    Pairing,
    distinct_names,
    entries,
    find,
    is_image,
    stems_below,
    strange_notes,
    unused_notes,
    walk,
)
from datasets.places import at

SPLIT_KEYS = ("images", "labels", "list")
WILD = "*?["
ANY_FOLDERS = "**"


@dataclass(frozen=True)
class Files:
    """Images or labels of a split by their stem, and the folder that the stems are below."""

    stems: Mapping[str, Path]
    base: Path
    strange: Counter[str]


@dataclass(frozen=True, kw_only=True)
class SplitEntry:
    """What a YAML file says about one split.

    root: folder that places are relative to. tree: the entry, with `where` its key. suffixes: ends
    of the stems of images and labels. error: makes the one line about a key.
    """

    root: Path
    yaml: Path
    where: str
    tree: Mapping[object, object]
    suffixes: tuple[str, str]
    error: Callable[[str, str], DataError]

    def items(self) -> Items:
        """Images with their labels. Raises DataError for keys and files that do not fit."""
        images = self._files("images", self.suffixes[0])
        labels = self._files("labels", self.suffixes[1])
        listing = self._text("list")
        if listing is not None:
            return self._listed(self._list_file(listing), images, labels)
        if images is None:
            raise self.error(self.where, "needs images: a folder or a pattern, or a list of images")
        pairing = Pairing()
        for stem, image in images.stems.items():
            self._add(pairing, stem, image, labels)
        unused = (
            [] if labels is None else [name for name in labels.stems if name not in images.stems]
        )
        found = pairing.paired(f"{self.yaml}: {self.where}: no images")
        found.notes += [*unused_notes(unused), *strange_notes(images.strange)]
        return found

    def _add(self, pairing: Pairing, stem: str, image: Path, labels: Files | None) -> None:
        label = None if labels is None else labels.stems.get(stem)
        pairing.put(stem, image, label)
        if labels is not None and label is None:
            place = self.tree["labels"]
            pairing.lacks(image, f"{image}: no label {stem} in {place} ({self.yaml})")

    def _text(self, key: str) -> str | None:
        place = self.tree.get(key)
        if place is not None and not isinstance(place, str):
            what = "a text file" if key == "list" else "a folder or a pattern"
            raise self.error(f"{self.where}: {key}", f"must be {what}, got {place!r}")
        return None if place is None else os.path.expanduser(place)

    def _files(self, key: str, suffix: str) -> Files | None:
        """The files of a folder or pattern, sub-folders included; None without the key."""
        place = self._text(key)
        if place is None:
            return None
        where, folder = f"{self.where}: {key}", at(self.root / place)
        strange: Counter[str] = Counter()
        if folder.is_dir():
            base, all_found = folder, find(folder)
            found, strange = all_found.images, all_found.strange
        elif any(letter in place for letter in WILD):
            base, parts = split_pattern(self.root, place)
            if any(ANY_FOLDERS in part and part != ANY_FOLDERS for part in parts):
                raise self.error(where, f"is {place}: ** stands for folders, alone between slashes")
            found = glob(base, parts)
        elif folder.is_file():
            raise self.error(where, f"is {folder}, a file; a list of images belongs under list:")
        else:
            raise self.error(where, f"is {folder}, which is not a folder")
        if not found:
            left = "".join(f"; {note}" for note in strange_notes(strange))
            raise self.error(where, f"finds no images in {folder}{left}")
        stems: dict[str, Path] = {}
        for stem, path in zip(stems_below(found, base), found, strict=True):
            name = stem.removesuffix(suffix)
            if name in stems:
                raise self.error(where, f"finds {name} twice: {stems[name]} and {path}")
            stems[name] = path
        return Files(stems, base, strange)

    def _list_file(self, place: str) -> Path:
        for folder in (self.root, self.yaml.parent):
            if (folder / place).is_file():
                return folder / place
        raise self.error(f"{self.where}: list", f"is {self.root / place}, which is not a file")

    def _listed(self, path: Path, images: Files | None, labels: Files | None) -> Items:
        """The items that a list names: stems of images, or paths, or an image and its label."""
        reader = _ListReader(path, self.root, images, labels)
        found: list[tuple[Path, Path | None]] = []
        lines: dict[Path, int] = {}
        faults = []
        for number, text in read_lines(path):
            try:
                image, label = reader.read((number, text))
            except LookupError as error:
                faults.append((number, str(error.args[0])))
                continue
            if image in lines:
                faults.append((number, f"{text} is already in line {lines[image]}"))
            lines[image] = number
            found.append((image, label))
        if faults:
            raise DataError(faults_text(path, faults))
        if not found:
            raise DataError(f"{path}: lists no images")
        return self._named(found, reader, labels)

    def _named(
        self, found: list[tuple[Path, Path | None]], reader: _ListReader, labels: Files | None
    ) -> Items:
        """Items of listed pairs; images of the folder are named by their stem."""
        pairing = Pairing()
        paths = [image for image, _ in found]
        names = distinct_names(paths, common_folder(paths))
        if all(image in reader.stem_of for image in paths):
            names = [reader.stem_of[image] for image in paths]
        for name, (image, label) in zip(names, found, strict=True):
            if label is None and labels is not None:
                self._add(pairing, name, image, labels)
            else:
                pairing.put(name, image, label)
        bare = [item for item in pairing.items if item.label is None]
        if 0 < len(bare) < len(pairing.items):
            for item in bare:
                pairing.lacks(item.image, f"{item.image}: no label in its line of {reader.path}")
        return pairing.paired(f"{reader.path}: lists no images")


class _ListReader:
    """Turns lines of the list `path` into files."""

    def __init__(self, path: Path, root: Path, images: Files | None, labels: Files | None) -> None:
        self.path, self.images, self.labels = path, images, labels
        self.stem_of = {} if images is None else {p: stem for stem, p in images.stems.items()}
        bases = [root, path.parent]
        self._image_folders = bases if images is None else [images.base, *bases]
        self._label_folders = bases if labels is None else [labels.base, *bases]

    def _image(self, text: str) -> Path | None:
        if self.images is not None:
            for stem in (text, os.path.splitext(text)[0] if is_image(text) else text):
                if stem in self.images.stems:
                    return self.images.stems[stem]
        return locate(text, self._image_folders)

    def _label(self, text: str) -> Path | None:
        if self.labels is not None and text in self.labels.stems:
            return self.labels.stems[text]
        return locate(text, self._label_folders)

    def read(self, line: Line) -> tuple[Path, Path | None]:
        """Image and label of a line; LookupError with what is wrong with it."""
        text = line[1]
        image = self._image(text)
        if image is not None:
            return image, None
        pair = split_pair(text, lambda a, b: bool(self._image(a) and self._label(b)))
        if pair is None:
            raise LookupError(f"{text}: no such image in {self._image_folders[0]}")
        image, label = self._image(pair[0]), self._label(pair[1])
        if image is None:
            raise LookupError(f"{pair[0]}: no such image in {self._image_folders[0]}")
        if label is None:
            raise LookupError(f"{pair[1]}: no such label in {self._label_folders[0]}")
        return image, label


def split_pattern(root: Path, place: str) -> tuple[Path, list[str]]:
    """The folder part of a pattern, and the rest; a folder name may contain [brackets]."""
    base, parts = root, list(Path(place).parts)
    while len(parts) > 1:
        is_wild = any(letter in parts[0] for letter in WILD)
        if is_wild and not (base / parts[0]).is_dir():
            break
        base /= parts.pop(0)
    return base, parts


def glob(base: Path, parts: list[str]) -> list[Path]:
    """The images below `base` whose path matches; `**` matches any folders, links are followed."""
    folders = [str(base)] if at(base).is_dir() else []
    for part in parts[:-1]:
        if part == ANY_FOLDERS:
            below = [folder for start in folders for folder, _ in walk(start)]
        else:
            fits = re.compile(fnmatch.translate(part)).match
            below = [
                os.path.join(start, name)
                for start in folders
                for name in entries(start)[0]
                if fits(name)
            ]
        folders = list(dict.fromkeys(below))
    fits = re.compile(fnmatch.translate(parts[-1])).match
    found = [
        os.path.join(folder, name)
        for folder in folders
        for name in entries(folder)[1]
        if is_image(name) and fits(name)
    ]
    return [Path(path) for path in sorted(found, key=lambda path: path.split(os.sep))]
