# SPDX-License-Identifier: Apache-2.0
"""Mapillary Vistas v1.1 and v1.2: 65 classes, named and coloured by the set's own config.json.

ROOT/config.json                               or config_v1.2.json
ROOT/{training,validation,testing}/images/*.jpg
ROOT/{training,validation}/labels/*.png        or v1.2/labels; ids 0..64, 65 is unlabelled
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets.base import DataError
from datasets.listing import Items, Pairing, images_in
from datasets.spec import Color, DatasetSpec

NUM_CLASSES = 65
IGNORE = 65
CONFIGS = ("config.json", "config_v1.2.json")
SPLITS = {"train": "training", "val": "validation", "test": "testing"}
LABEL_FOLDERS = ("labels", "v1.2/labels")


def make_spec(root: Path) -> DatasetSpec:
    """Classes and colours of the set at `root`; blanks in names become underscores.

    Raises DataError for a config file that is missing, broken, or of another version.
    """
    path = next((root / name for name in CONFIGS if (root / name).is_file()), None)
    if path is None:
        raise DataError(f"{root}: no {' or '.join(CONFIGS)}, which names the classes")
    labels = _labels(path)
    if len(labels) not in (NUM_CLASSES, NUM_CLASSES + 1):
        raise DataError(
            f"{path}: {len(labels)} labels, but v1.1 and v1.2 have {NUM_CLASSES} classes and one "
            "for unlabelled pixels; other versions are not read"
        )
    rows = [_row(path, number, labels[number]) for number in range(NUM_CLASSES)]
    return DatasetSpec(
        name="mapillary",
        class_names=tuple(name for name, _ in rows),
        palette=tuple(color for _, color in rows),
        id_to_train_id={number: number for number in range(NUM_CLASSES + 1)},
        ignore_label=IGNORE,
        train_id_to_id=tuple(range(NUM_CLASSES)),
    )


def _labels(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read as JSON: {text}") from error
    labels = content.get("labels") if isinstance(content, Mapping) else None
    if not isinstance(labels, list):
        raise DataError(f'{path}: no list "labels" in it; is it the file of Mapillary Vistas?')
    return labels


def _row(path: Path, number: int, entry: object) -> tuple[str, Color]:
    """Name and colour of a class."""
    if isinstance(entry, Mapping):
        name, color = entry.get("readable"), entry.get("color")
        if isinstance(name, str) and isinstance(color, list) and len(color) == 3:
            red, green, blue = color
            if all(_is_level(value) for value in color):
                return name.replace(" ", "_"), (red, green, blue)
    raise DataError(f'{path}: labels[{number}] needs "readable" and "color", three numbers 0..255')


def _is_level(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= 255


def list_items(root: Path, split: str) -> Items:
    """The images of "train", "val" or "test" by name; the test split has no labels.

    Raises DataError for a missing folder, an empty split, and an image without a label.
    """
    folder = root / SPLITS[split]
    images = folder / "images"
    frames = images_in(images)
    labels = None if split == "test" else _label_folder(folder)
    pairing = Pairing()
    for image in frames:
        pairing.add(image.stem, image, None if labels is None else labels / f"{image.stem}.png")
    return pairing.finish(f"{images}: no images for split {split}")


def _label_folder(folder: Path) -> Path:
    for name in LABEL_FOLDERS:
        if (folder / name).is_dir():
            return folder / name
    raise DataError(f"{folder}: no folder {' nor '.join(LABEL_FOLDERS)} in it")
