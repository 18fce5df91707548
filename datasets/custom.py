# SPDX-License-Identifier: Apache-2.0
"""Your own data set, described by one YAML file (key DATASET.CUSTOM_YAML):

    name: harbour                    # optional, the file's own name otherwise
    root: /data/harbour              # optional, the folder of this file otherwise
    names: [water, quay, ship]       # classes, train ids 0, 1, 2
    palette: [[0, 80, 160], ...]     # optional, one colour a class
    ids: {7: 0, 8: 1, 26: 2, 0: 255} # optional, value in the label files -> class or ignore
    ignore: 255                      # optional
    image_suffix: _rgb               # optional, ends of the stems that differ:
    label_suffix: _mask              #   quay1_rgb.jpg belongs to quay1_mask.png
    splits:
      train: {images: train/images, labels: train/masks}   # folders, with their sub-folders
      val: {images: "val/*_rgb.jpg", labels: "val/*_mask.png"}   # or patterns; ** is allowed
      test: {images: test}           # without labels

Without `ids` files hold the classes themselves, and `ignore` for pixels that do not count.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from pathlib import Path

import yaml

from config import near
from datasets.base import DataError
from datasets.folder import find_images, is_image
from datasets.spec import IGNORE, Color, DatasetSpec, Item

KEYS = (
    "name",
    "root",
    "names",
    "palette",
    "ids",
    "ignore",
    "image_suffix",
    "label_suffix",
    "splits",
)
SPLIT_KEYS = ("images", "labels")


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
        return self.path.parent / self._text("root", ".")

    def spec(self) -> DatasetSpec:
        """Classes, colours and id map."""
        names = self.tree["names"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self.error("names", f"must be a list of texts, got {names!r}")
        if not names or len(set(names)) != len(names):
            raise self.error("names", f"must hold every class once, got {names!r}")
        ignore = self._integer(self.tree.get("ignore", IGNORE), "ignore", len(names))
        ids = self._id_map(len(names), ignore)
        raw: dict[int, int] = {}
        for value, train_id in ids.items():
            raw.setdefault(train_id, value)
        unused = [name for number, name in enumerate(names) if number not in raw]
        if unused:
            raise self.error("ids", f"maps nothing to {', '.join(unused)}")
        return DatasetSpec(
            name=self._text("name", self.path.stem),
            class_names=tuple(names),
            palette=self._palette(len(names)),
            id_to_train_id=ids,
            ignore_label=ignore,
            train_id_to_id=tuple(raw[number] for number in range(len(names))),
        )

    def _id_map(self, count: int, ignore: int) -> dict[int, int]:
        if "ids" not in self.tree:
            return {**{number: number for number in range(count)}, ignore: ignore}
        ids = {}
        for raw, train_id in self._mapping(self.tree["ids"], "ids").items():
            value = self._integer(raw, "ids: key")
            ids[value] = self._integer(train_id, f"ids: {raw}")
            if ids[value] >= count and ids[value] != ignore:
                raise self.error(
                    f"ids: {raw}", f"is {train_id}, neither a class 0..{count - 1} nor {ignore}"
                )
        return ids

    def _palette(self, count: int) -> tuple[Color, ...]:
        rows = self.tree.get("palette")
        if rows is None:
            return hues(count)
        if not isinstance(rows, list) or len(rows) != count:
            raise self.error("palette", f"must be a list of {count} colours, one a class")
        colors = []
        for number, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != 3:
                raise self.error(f"palette: row {number}", f"must be [r, g, b], got {row!r}")
            red, green, blue = (self._integer(value, f"palette: row {number}") for value in row)
            colors.append((red, green, blue))
        return tuple(colors)

    def items(self, split: str) -> list[Item]:
        """Images of a split, each paired with its label by the path or stem."""
        splits = self._mapping(self.tree["splits"], "splits")
        if split not in splits:
            listed = ", ".join(str(name) for name in splits)
            raise self.error("splits", f"has no {split} (there is {listed})")
        where = f"splits: {split}"
        entry = self._mapping(splits[split], where)
        self._known(entry, SPLIT_KEYS, f"{where}: ")
        images = self._stems(entry, "images", where, "image_suffix")
        if images is None:
            raise self.error(where, "needs images: a folder or a pattern")
        labels = self._stems(entry, "labels", where, "label_suffix")
        items = []
        for stem, image in images.items():
            label = None if labels is None else labels.get(stem)
            if labels is not None and label is None:
                raise DataError(f"{image}: no label {stem} in {entry['labels']} ({self.path})")
            items.append(Item(name=stem, image=image, label=label))
        return items

    def _stems(
        self, entry: Mapping[object, object], key: str, where: str, suffix_key: str
    ) -> dict[str, Path] | None:
        """The files of a folder or pattern by their stem, sub-folders included; None if absent."""
        place = entry.get(key)
        if place is None:
            return None
        if not isinstance(place, str):
            raise self.error(f"{where}: {key}", f"must be a folder or a pattern, got {place!r}")
        folder = self.root() / place
        if any(letter in place for letter in "*?["):
            base, pattern = _split_pattern(self.root(), place)
            found = sorted(path for path in base.glob(pattern) if is_image(path))
        elif folder.is_dir():
            base, found = folder, find_images(folder)
        else:
            raise self.error(f"{where}: {key}", f"is {folder}, which is no folder")
        if not found:
            raise self.error(f"{where}: {key}", f"finds no pictures in {folder}")
        suffix = self._text(suffix_key, "")
        stems: dict[str, Path] = {}
        for path in found:
            stem = path.relative_to(base).with_suffix("").as_posix().removesuffix(suffix)
            if stem in stems:
                raise self.error(f"{where}: {key}", f"finds {stem} twice: {stems[stem]} and {path}")
            stems[stem] = path
        return stems


def _split_pattern(root: Path, place: str) -> tuple[Path, str]:
    """The part of a pattern without wildcards as a folder, and the rest."""
    parts = Path(place).parts
    first = next(at for at, part in enumerate(parts) if any(letter in part for letter in "*?["))
    return root.joinpath(*parts[:first]), str(Path(*parts[first:]))


def hues(count: int) -> tuple[Color, ...]:
    """As many colours, evenly around the circle of hues."""
    return tuple(_hue(number / count) for number in range(count))


def _hue(share: float) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(share, 0.75, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def _read(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(
            f"{path}: can not be read as YAML: {' '.join(str(error).split())}"
        ) from error


def make_spec(path: Path) -> DatasetSpec:
    """The classes that the YAML file `path` describes."""
    return Description(path).spec()


def root_of(path: Path) -> Path:
    """The folder that the splits in the YAML file `path` are relative to."""
    return Description(path).root()


def list_items(path: Path, split: str) -> list[Item]:
    """The pictures of `split` that the YAML file `path` describes."""
    return Description(path).items(split)
