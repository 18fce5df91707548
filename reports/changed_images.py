# SPDX-License-Identifier: Apache-2.0
"""The images whose scores changed most between two runs, and the pictures that both dumped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from datasets.spec import flat_palette
from reports.files import jpeg_link, png_link
from reports.image_dump import PICTURES
from reports.scored_runs import ScoredRun
from reports.trees import MANIFEST
from runtime.names import output

TREES = ("color", "composite")  # of what other tools read, those that show classes
FLAGS = {  # folder -> what has an evaluation write it
    PICTURES: ("dump_all_images", "dump_assets", "dump_attention"),
    **{tree: (f"dump_{tree}",) for tree in TREES},
}
LONGEST = 480  # pixels of a picture
GAINED, LOST, OTHER = 1, 2, 3  # pixels: right in B alone, in A alone, differently wrong
CHANGE_COLORS = (230, 232, 236), (16, 150, 142), (234, 88, 12), (120, 126, 138)
UNREADABLE = (OSError, ValueError, Image.DecompressionBombError)
Ids = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class ChangedImage:
    """One image: the share of its labelled pixels that are right in A and in B."""

    name: str
    a: float
    b: float
    pictures: dict[str, str] = field(default_factory=dict)  # title -> data link

    @property
    def change(self) -> float:
        """What B has more."""
        return self.b - self.a


def ranked(a: ScoredRun, b: ScoredRun) -> list[ChangedImage]:
    """The images that changed, most first; those without a labelled pixel have no score."""
    sides = []
    for run in (a, b):
        areas, count = run.scores.counts.areas(), len(run.scores.counts.class_names)
        sides.append((areas[:, :count].sum(1), areas[:, count : 2 * count].sum(1)))
    (right_a, all_a), (right_b, all_b) = sides
    found = [
        ChangedImage(name=name, a=right_a[i] / all_a[i], b=right_b[i] / all_b[i])
        for i, name in enumerate(a.scores.counts.names)
        if all_a[i] and all_b[i]
    ]
    changed = [image for image in found if image.change]
    return sorted(changed, key=lambda image: (-abs(image.change), image.name))


class Dumps:
    """The pictures that a run dumped, by image; those of an earlier one in its folder are not."""

    def __init__(self, run: ScoredRun) -> None:
        self.folder, self.classes = run.folder, len(run.scores.palette)
        self.kinds = {kind for kind, flags in FLAGS.items() if any(map(run.flags.get, flags))}
        self.files = _listed_files(run.folder / MANIFEST) if self.kinds & set(TREES) else {}

    def prediction(self, name: str) -> Path | None:
        """The predicted classes in their colours, else over the image."""
        return self._first(
            self._place(PICTURES, name, "_prediction.png"),
            *(self._place(tree, name, ".png") for tree in TREES),
        )

    def label(self, name: str) -> Path | None:
        """The label in the colours of the classes."""
        return self._first(self._place(PICTURES, name, "_gt.png"))

    def image(self, name: str) -> Path | None:
        """The image as the network saw it, else its file."""
        return self._first(self._place(PICTURES, name, "_input.png"), self.files.get(name))

    def _place(self, kind: str, name: str, after: str) -> Path | None:
        return self.folder / kind / output(name, after=after) if kind in self.kinds else None

    @staticmethod
    def _first(*paths: Path | None) -> Path | None:
        return next((path for path in paths if path is not None and path.is_file()), None)


def _listed_files(manifest: Path) -> dict[str, Path]:
    """Image -> its file, as the list of the dumped trees says; damaged lines count as missing."""
    files = {}
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    for line in lines:
        try:
            row = json.loads(line)
            files[str(row["name"])] = Path(row["file"])
        except (ValueError, TypeError, KeyError):
            continue
    return files


def with_pictures(
    images: Sequence[ChangedImage], a: ScoredRun, b: ScoredRun, count: int
) -> tuple[list[ChangedImage], str]:
    """The first `count` that both runs dumped, with pictures, and a line about those missing.

    Without any dump, the first `count` as they are.
    """
    left, right = Dumps(a), Dumps(b)
    sides = (left, right)
    dumped = [image for image in images if all(side.prediction(image.name) for side in sides)]
    way = "python eval.py --from_run RUN --dump_all_images --result_dir DIR dumps them"
    if not dumped:
        line = f"no pictures, because not both runs dumped predictions: {way}" if images else ""
        return list(images[:count]), line
    line = f"both runs dumped {len(dumped)} of the {len(images)} images that changed: {way}"
    shown = [_with_pictures(image, left, right) for image in dumped[:count]]
    return shown, line if len(dumped) < len(images) else ""


def _with_pictures(image: ChangedImage, left: Dumps, right: Dumps) -> ChangedImage:
    """The image with everything there is to show of it; unreadable files count as missing."""
    name = image.name
    places = {
        "image": left.image(name) or right.image(name),
        "label": left.label(name) or right.label(name),
        "A": left.prediction(name),
        "B": right.prediction(name),
    }
    opened = {title: picture for title, path in places.items() if (picture := _opened(path))}
    pictures = {title: _link(picture) for title, picture in opened.items()}
    label, a, b = (_ids(opened.get(title)) for title in ("label", "A", "B"))
    change = _change(label, a, b, left.classes)
    if change is not None:
        pictures["change"] = _link(change)
    return ChangedImage(name=name, a=image.a, b=image.b, pictures=pictures)


def _opened(path: Path | None) -> Image.Image | None:
    """A picture in memory, class maps as palette images, all others as RGB."""
    if path is None:
        return None
    try:
        with Image.open(path) as picture:
            return picture.copy() if picture.mode == "P" else picture.convert("RGB")
    except UNREADABLE:
        return None


def _ids(picture: Image.Image | None) -> Ids | None:
    return np.asarray(picture) if picture is not None and picture.mode == "P" else None


def _link(picture: Image.Image) -> str:
    """A picture as a data link, at most LONGEST pixels a side; class maps keep their colours."""
    if picture.mode != "P":
        return jpeg_link(np.asarray(picture), LONGEST)
    scale = min(LONGEST / max(picture.size), 1)
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    small = picture.resize(size, Image.Resampling.NEAREST)
    return png_link(np.asarray(small), picture.getpalette())


def _change(label: Ids | None, a: Ids | None, b: Ids | None, classes: int) -> Image.Image | None:
    """Where B is right and A is not, and the other way round; None without maps of one size."""
    if label is None or a is None or b is None or not label.shape == a.shape == b.shape:
        return None
    change = np.where(a != b, OTHER, 0)
    change[(a != b) & (b == label)] = GAINED
    change[(a != b) & (a == label)] = LOST
    change[label >= classes] = 0
    picture = Image.fromarray(change.astype(np.uint8))
    picture.putpalette(flat_palette(CHANGE_COLORS))
    return picture
