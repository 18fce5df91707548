# SPDX-License-Identifier: Apache-2.0
"""A list of known bad pairs that are left out of a data set (key DATASET.SKIP_LIST).

A text file with one entry per line: the name of an item, or the path of its image or label, with or
without the ending, and as much of the path as you like: `im3`, `im3.png`, `train/images/im3.png`.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from datasets.base import DataError
from datasets.list_files import read_lines
from datasets.listing import Items, MissingFiles, named


class SkipList:
    """The entries of a list file; remembers which of them matched."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.met: set[str] = set()
        self._by_last: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.entries = [text for _, text in read_lines(path, "surrogateescape")]
        for text in self.entries:
            plain = _plain(text)
            self._by_last[plain.rpartition("/")[2]].append((plain, text))

    def has(self, name: str, *files: Path | None) -> bool:
        """Whether an entry means the item `name` with these files; remembers the entry."""
        spellings = [name]
        for path in files:
            if path is not None:
                plain = os.path.abspath(path)
                spellings += [plain, os.path.splitext(plain)[0]]
        found = {
            text
            for spelling in spellings
            for plain, text in self._by_last.get(spelling.rpartition("/")[2], ())
            if spelling == plain or spelling.endswith("/" + plain)
        }
        self.met |= found
        return bool(found)

    def apply(self, items: Items, faults: Mapping[Path, str] | None = None) -> Items:
        """`items` without the listed ones, with a note of how many were left out.

        faults: of images, see `MissingFiles`. Raises those of images that are not listed, and
        DataError when nothing is left.
        """
        left = Items(
            (item for item in items if not self.has(item.name, item.image, item.label)),
            items.notes,
        )
        if not left:
            raise DataError(f"{self.path}: all {len(items)} images of the split are left out")
        kept = {item.image for item in left}
        open_faults = {path: text for path, text in (faults or {}).items() if path in kept}
        if open_faults:
            raise MissingFiles(left, open_faults)
        if count := len(items) - len(left):
            images = "image is" if count == 1 else "images are"
            left.notes.append(f"{count} {images} left out by {self.path}")
        return left

    def unknown_text(self) -> str:
        """One line about the entries that meant no image so far; empty if there are none."""
        unknown = [text for text in self.entries if text not in self.met]
        if not unknown:
            return ""
        have = "entries mean" if len(unknown) > 1 else "entry means"
        return f"{self.path}: {len(unknown)} {have} no image of this run ({named(unknown)})"


def _plain(text: str) -> str:
    """A line with slashes, without `./` in front."""
    return os.path.normpath(os.path.expanduser(text.replace("\\", "/")))
