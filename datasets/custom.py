# SPDX-License-Identifier: Apache-2.0
"""Your own data set, described by one YAML file (key DATASET.CUSTOM_YAML):

    name: harbour                    # optional, the file's own name otherwise
    root: /data/harbour              # optional, the folder of this file otherwise
    names: [water, quay, ship]       # classes, train ids 0, 1, 2
    palette: [[0, 80, 160], ...]     # optional, one colour per class
    ids: {7: 0, 8: 1, 26: 2, 0: 255} # optional, value in the label files -> class or ignore
    ignore: 255                      # optional
    colors: {"#0050a0": water, ...}  # optional, and exif:, range:; see `custom_reading`
    image_suffix: _rgb               # optional, ends of the stems that differ:
    label_suffix: _mask              #   quay1_rgb.jpg belongs to quay1_mask.png
    splits:
      train: {images: train/images, labels: train/masks}   # folders, with their sub-folders
      val: {images: "val/*_rgb.jpg", labels: "val/*_mask.png"}   # or patterns; ** is allowed
      test: {images: test}           # without labels

A split may also be a list, a text file with one image per line, and its label unless `labels` says
where the labels are (stems as in VOC's ImageSets, or paths; relative to `root`, to the list, or
absolute):

      train: {list: ImageSets/train.txt, images: JPEGImages, labels: SegmentationClass}
      val: {list: val.txt}           # lines "images/a.jpg masks/a.png"

Without `ids` files hold the classes themselves, and `ignore` for pixels that do not count.
"""

from __future__ import annotations

import colorsys
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from datasets.base import DataError
from datasets.custom_files import SPLIT_KEYS, SplitEntry
from datasets.custom_reading import color_map, is_turned, value_range
from datasets.listing import Items
from datasets.places import at
from datasets.spec import IGNORE, NUM_RAW_IDS, RAW_IDS, Color, DatasetSpec
from runtime.errors import near

KEYS = (
    "name",
    "root",
    "names",
    "palette",
    "ids",
    "ignore",
    "colors",
    "exif",
    "range",
    "image_suffix",
    "label_suffix",
    "splits",
)
NO_ID = -1


class Description:
    """A checked custom YAML. Raises DataError naming the key and the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = self._mapping(_read(path), "the file")
        self._known(self.tree, KEYS, "")
        for key in ("names", "splits"):
            if key not in self.tree:
                raise self.error(key, "is missing")

    def error(self, key: str, text: str) -> DataError:
        """The one line about `key` of this file."""
        return DataError(f"{self.path}: {key} {text}")

    def _known(self, tree: Mapping[object, object], keys: tuple[str, ...], where: str) -> None:
        for key in tree:
            if key not in keys:
                raise DataError(f"{self.path}: unknown key {where}{key}{near(str(key), keys)}")

    def _mapping(self, value: object, key: str) -> Mapping[object, object]:
        if not isinstance(value, Mapping):
            raise self.error(key, f"must be a mapping, got {value!r}")
        return value

    def _text(self, key: str, default: str) -> str:
        value = self.tree.get(key, default)
        if not isinstance(value, str):
            raise self.error(key, f"must be text, got {value!r}")
        return value

    def _integer(self, value: object, key: str, low: int = 0, high: int = 255) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(key, f"must be a whole number {low}..{high}, got {value!r}")
        return value

    def root(self) -> Path:
        """The folder that the splits are relative to."""
        return at(self.path.parent / os.path.expanduser(self._text("root", ".")))

    def spec(self) -> DatasetSpec:
        """Classes, colours and id map."""
        names = self.tree["names"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self.error("names", f"must be a list of texts, got {names!r}")
        if not names or len(set(names)) != len(names):
            raise self.error("names", f"must hold every class once, got {names!r}")
        if len(names) >= NUM_RAW_IDS:
            raise self.error(
                "names",
                f"holds {len(names)} classes; at most 255 are possible, because train ids have 8 "
                "bits and one of the 256 is the ignore label",
            )
        if len(names) == 1:
            raise self.error(
                "names",
                f"holds one class, {names[0]}: with nothing to distinguish it from there is "
                "nothing to learn; give what is around it a class of its own, e.g. background",
            )
        ignore = self._integer(self.tree.get("ignore", IGNORE), "ignore", len(names))
        ids = self._id_map(len(names), ignore)
        raw: dict[int, int] = {}
        for value, train_id in ids.items():
            raw.setdefault(train_id, value)
        unused = [name for number, name in enumerate(names) if number not in raw]
        if unused:
            raise self.error("ids", f"maps nothing to {', '.join(unused)}")
        colors = None
        if "colors" in self.tree:
            if ignore not in ids.values():
                ids[NO_ID] = ignore  # so that colours can be ignored without a value in `ids`
            colors = color_map(self.tree["colors"], names, ids, ignore, self.error)
        return DatasetSpec(
            name=self._text("name", self.path.stem),
            class_names=tuple(names),
            palette=self._palette(len(names), colors, ids),
            id_to_train_id=ids,
            ignore_label=ignore,
            train_id_to_id=tuple(raw[number] for number in range(len(names))),
            color_to_id=colors,
            exact_colors=colors is not None,
            custom=True,
        )

    def _id_map(self, count: int, ignore: int) -> dict[int, int]:
        if "ids" not in self.tree:
            return {**{number: number for number in range(count)}, ignore: ignore}
        ids = {}
        for raw, train_id in self._mapping(self.tree["ids"], "ids").items():
            value = self._integer(raw, "ids: key", RAW_IDS[0], RAW_IDS[-1])
            ids[value] = self._integer(train_id, f"ids: {raw}")
            if ids[value] >= count and ids[value] != ignore:
                raise self.error(
                    f"ids: {raw}", f"is {train_id}, neither a class 0..{count - 1} nor {ignore}"
                )
        return ids

    def _palette(
        self, count: int, labels: Mapping[Color, int] | None, ids: Mapping[int, int]
    ) -> tuple[Color, ...]:
        """One colour per class: its row, or the first that label files give it, or one of many."""
        rows = self.tree.get("palette")
        if rows is None and labels is not None:
            first = {ids[raw]: color for color, raw in reversed(list(labels.items()))}
            return tuple(first[number] for number in range(count))
        if rows is None:
            return hues(count)
        if not isinstance(rows, list) or len(rows) != count:
            raise self.error("palette", f"must be a list of {count} colours, one per class")
        colors = []
        for number, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != 3:
                raise self.error(f"palette: row {number}", f"must be [r, g, b], got {row!r}")
            red, green, blue = (self._integer(value, f"palette: row {number}") for value in row)
            colors.append((red, green, blue))
        return tuple(colors)

    def splits(self) -> Mapping[object, object]:
        """What the file says about each split."""
        return self._mapping(self.tree["splits"], "splits")

    def items(self, split: str) -> Items:
        """Images of a split, each paired with its label by path, by stem or as listed."""
        splits = self.splits()
        if split not in splits:
            listed = ", ".join(str(name) for name in splits)
            raise self.error("splits", f"has no {split} (there is {listed})")
        where = f"splits: {split}"
        entry = self._mapping(splits[split], where)
        self._known(entry, SPLIT_KEYS, f"{where}: ")
        suffixes = self._text("image_suffix", ""), self._text("label_suffix", "")
        turned = is_turned(self.tree.get("exif"), self.error)
        levels = value_range(self.tree.get("range"), self.error)
        items = SplitEntry(
            root=self.root(),
            yaml=self.path,
            where=where,
            tree=entry,
            suffixes=suffixes,
            error=self.error,
        ).items()
        read = (dataclasses.replace(item, turned=turned, levels=levels) for item in items)
        return Items(read, items.notes)


def hues(count: int) -> tuple[Color, ...]:
    """`count` colours, evenly spaced around the circle of hues."""
    return tuple(_hue(number / count) for number in range(count))


def _hue(share: float) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(share, 0.75, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def _read(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(
            f"{path}: cannot be read as YAML: {' '.join(str(error).split())}"
        ) from error


def make_spec(path: Path) -> DatasetSpec:
    """The classes that the YAML file `path` describes."""
    return Description(path).spec()


def root_of(path: Path) -> Path:
    """The folder that the splits in the YAML file `path` are relative to."""
    return Description(path).root()


def splits_of(path: Path) -> tuple[str, ...]:
    """The names of the splits that the YAML file `path` describes."""
    return tuple(str(name) for name in Description(path).splits())


def list_items(path: Path, split: str) -> Items:
    """The images of `split` that the YAML file `path` describes."""
    return Description(path).items(split)
