# SPDX-License-Identifier: Apache-2.0
"""Finding the files of a data set: what counts as an image, sub-folders, pairs, what is left over.

Every listing goes through here, so the same rules hold for all sets: hidden files do not
count, links to folders are followed, an image without its label is an error that names all of
them, and files that nothing uses are counted and named.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import features

from datasets.base import DataError
from datasets.places import located, scan
from datasets.spec import Item
from datasets.video import VIDEO_ENDINGS

# Endings that Pillow or OpenCV decode.
IMAGE_ENDINGS = frozenset((
    ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png",
    ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
    *((".avif",) if features.check("avif") else ()),
))  # fmt: skip
# Files that often lie beside images: nobody misses them.
SIDE_ENDINGS = frozenset((
    ".csv", ".db", ".geojson", ".gz", ".htm", ".html", ".ini", ".json", ".jsonl", ".lnk", ".log",
    ".mat", ".md", ".npy", ".npz", ".pdf", ".pgw", ".pkl", ".pth", ".py", ".rst", ".sh", ".tar",
    ".tfw", ".toml", ".tsv", ".txt", ".wld", ".xml", ".yaml", ".yml", ".zip",
))  # fmt: skip
NUM_NAMED = 3


class Items(list[Item]):
    """The items of a split, and one line for each thing that was ignored on the way."""

    def __init__(self, items: Iterable[Item] = (), notes: Iterable[str] = ()) -> None:
        super().__init__(items)
        self.notes = list(notes)


class MissingFiles(DataError):
    """Pairs with a missing file; `items` are all of the split, `faults` say what is missing."""

    def __init__(self, items: Items, faults: Mapping[Path, str]) -> None:
        self.items, self.faults = items, dict(faults)
        super().__init__(faults_text(self.faults))


def faults_text(faults: Mapping[Path, str]) -> str:
    """One line about all images with a fault: what is wrong with the first, and which others."""
    first, *others = faults.items()
    text = first[1]
    if others:
        files = "1 more file has a fault" if len(others) == 1 else f"{len(others)} more have faults"
        text += f"; {files}: {named([path.name for path, _ in others])}"
    return f"{text} (a list in DATASET.SKIP_LIST leaves known bad files out)"


def named(names: Collection[str], count: int = NUM_NAMED) -> str:
    """The first names, and whether there are more."""
    shown = ", ".join(sorted(names)[:count])
    return f"{shown}, ..." if len(names) > count else shown


def notes_of(items: list[Item]) -> list[str]:
    """What was ignored while `items` were listed."""
    return items.notes if isinstance(items, Items) else []


def ending(name: str) -> str:
    """The suffix of a file name in small letters, with its dot."""
    return os.path.splitext(name)[1].lower()


def is_image(path: Path | str) -> bool:
    """Whether the name looks like an image; hidden files do not count."""
    name = os.path.basename(path)
    return ending(name) in IMAGE_ENDINGS and not name.startswith(".")


def entries(folder: Path | str) -> tuple[list[str], list[str]]:
    """Names of the sub-folders and of the files of `folder`, sorted, without the hidden ones.

    Raises DataError for a folder that cannot be read.
    """
    try:
        return scan(folder)
    except OSError as error:
        reason = "no such folder" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"{folder}: {reason}") from error


def images_in(folder: Path, end: str = "") -> list[Path]:
    """The images directly in `folder` by name; with `end` those whose names end in it.

    Raises DataError for a folder that cannot be read.
    """
    return [folder / name for name in entries(folder)[1] if is_image(name) and name.endswith(end)]


def walk(root: str, leave_out: Collection[str] = ()) -> Iterator[tuple[str, list[str]]]:
    """Every folder below `root` with its files, links followed, hidden folders left out.

    A link to a folder that it lies in is not followed. leave_out: real paths of folders to skip.
    Raises DataError for a folder that cannot be read.
    """
    waiting = [(root, frozenset([os.path.realpath(root)]))]
    while waiting:
        folder, above = waiting.pop()
        folders, files = entries(folder)
        yield folder, files
        for name in reversed(folders):
            path = os.path.join(folder, name)
            real = os.path.realpath(path)
            if real not in above and real not in leave_out:
                waiting.append((path, above | {real}))


@dataclass
class Found:
    """Images and, where asked for, videos below a folder in the order of the paths, and the
    endings that are not known."""

    images: list[Path] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)
    strange: Counter[str] = field(default_factory=Counter)

    def notes(self) -> list[str]:
        """One line about files that may be images of a kind that is not read."""
        return strange_notes(self.strange)


def strange_notes(endings: Counter[str]) -> list[str]:
    """One line about endings that belong neither to images nor to what often lies beside them."""
    if not endings:
        return []
    count = endings.total()
    listed = ", ".join(
        f"{number} {name or 'without an ending'}" for name, number in endings.items()
    )
    if count == 1:
        return [f"1 file is ignored, its ending is not known: {listed}"]
    return [f"{count} files are ignored, their endings are not known: {listed}"]


def strange_ending(name: str) -> str | None:
    """The ending of a file that may be an image of a kind that is not read, else None."""
    kind = ending(name)
    if kind in IMAGE_ENDINGS or kind in SIDE_ENDINGS or name in ("Thumbs.db", "desktop.ini"):
        return None
    return kind


def find(root: Path, leave_out: Collection[str] = (), *, videos: bool = False) -> Found:
    """All images below `root`, and with `videos` all videos; see `walk`."""
    found = Found()
    images, clips = list[str](), list[str]()
    for folder, files in walk(str(root), leave_out):
        for name in files:
            kind = ending(name)
            if kind in IMAGE_ENDINGS:
                images.append(os.path.join(folder, name))
            elif videos and kind in VIDEO_ENDINGS:
                clips.append(os.path.join(folder, name))
            elif (strange := strange_ending(name)) is not None:
                found.strange[strange] += 1
    found.images, found.videos = _in_order(images), _in_order(clips)
    return found


def _in_order(paths: list[str]) -> list[Path]:
    return [Path(path) for path in sorted(paths, key=lambda path: path.split(os.sep))]


def stems_below(paths: Iterable[Path], base: Path) -> list[str]:
    """The paths below `base` without their endings."""
    start = len(str(base).rstrip(os.sep)) + 1
    return [os.path.splitext(str(path)[start:])[0].replace(os.sep, "/") for path in paths]


def distinct_names(paths: list[Path], base: Path) -> list[str]:
    """Names of items: paths below `base`, without the ending unless only it tells two apart."""
    stems = stems_below(paths, base)
    counts = Counter(stems)
    return [
        stem + path.suffix.replace(".", "_") if counts[stem] > 1 else stem
        for stem, path in zip(stems, paths, strict=True)
    ]


class Pairing:
    """Collects the images of one split with their labels, and reports what does not fit together.

    label_end: how the names of the label files end. whole: every label of the folders should have
    its image in this split, which is not the case when folds share folders.
    """

    def __init__(self, label_end: str = ".png", whole: bool = True) -> None:
        self.label_end, self.whole = label_end, whole
        self.items = Items()
        self._missing: dict[Path, str] = {}
        self._files: dict[str, set[str]] = {}
        self._used: dict[str, set[str]] = {}

    def put(self, name: str, image: Path, label: Path | None) -> None:
        """Add an image whose files are known to exist."""
        self.items.append(Item(name=name, image=image, label=label))

    def add(self, name: str, image: Path, label: Path | None) -> None:
        """Add an image whose label may turn out to be missing."""
        self.put(name, image, label)
        if label is None:
            return
        folder, file = os.path.split(label)
        self._used.setdefault(folder, set()).add(file)
        if not self.has(label):
            image = self.items[-1].image
            self.lacks(image, f"{image}: its label {label} is missing")

    def lacks(self, image: Path, text: str) -> None:
        """Note that a file of the pair of `image` is missing."""
        self._missing.setdefault(located(image), text)

    def has(self, path: Path) -> bool:
        """Whether a file exists; its folder is listed once."""
        folder, file = os.path.split(path)
        if folder not in self._files:
            try:
                self._files[folder] = set(entries(folder)[1])
            except DataError:
                self._files[folder] = set()
        return file in self._files[folder] or path.is_file()

    def paired(self, empty: str) -> Items:
        """All items. Raises DataError with the text `empty` if there are none, MissingFiles."""
        if not self.items:
            raise DataError(empty)
        if self._missing:
            raise MissingFiles(self.items, self._missing)
        return self.items

    def finish(self, empty: str) -> Items:
        """As `paired`, with notes about the other files in the folders of the items."""
        self.items.notes += self._leftovers()
        return self.paired(empty)

    def _leftovers(self) -> list[str]:
        """Labels without an image, and files of unknown kinds beside the images."""
        kinds: Counter[str] = Counter()
        for folder in sorted({os.path.dirname(item.image) for item in self.items}):
            kinds.update(
                kind for name in entries(folder)[1] if (kind := strange_ending(name)) is not None
            )
        unused = [
            name.removesuffix(self.label_end)
            for folder, used in self._used.items()
            for name in self._files.get(folder, set()) - used
            if self.whole and name.endswith(self.label_end) and is_image(name)
        ]
        return [*unused_notes(unused), *strange_notes(kinds)]


def unused_notes(names: list[str]) -> list[str]:
    """One line about labels that no image belongs to."""
    if not names:
        return []
    have = "labels have" if len(names) > 1 else "label has"
    return [f"{len(names)} {have} no image ({named(names)})"]
