# SPDX-License-Identifier: Apache-2.0
"""The recorded targets of auto-labelled pictures, through files as training reads them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets.base import read_item_label
from datasets.cityscapes import SPEC
from datasets.spec import AutoLabel, Item
from tests.parity import recipe
from tests.parity.core import Fixture, Row, compare

HEIGHT, WIDTH, NUM_IDS = 1024, 2048, 34


def _write(folder: Path, seed: int) -> dict[str, Path]:
    """The ids, probability and coarse label of a recording."""
    rows, cols = np.arange(HEIGHT)[:, None], np.arange(WIDTH)[None]
    pictures = {
        "ids": recipe.label(HEIGHT, WIDTH, NUM_IDS, seed, ignore=0),
        "coarse": recipe.label(HEIGHT, WIDTH, NUM_IDS, seed + 1, ignore=0),
        "prob": (7 * rows + 3 * cols) % 256,
    }
    for name, values in pictures.items():
        Image.fromarray(values.astype(np.uint8)).save(folder / f"{name}.png", compress_level=1)
    return {name: folder / f"{name}.png" for name in pictures}


def _rules(case: dict[str, Any], files: dict[str, Path]) -> AutoLabel | None:
    """What the recorded program applied: its rules went by the folder's name.

    Here they go by the configured root, so the case whose folder has another name is that of a
    label to which no rule belongs.
    """
    if "refinement" not in case["directory"]:
        return None
    return AutoLabel(
        prob=files["prob"],
        coarse=files["coarse"],
        threshold=case["custom_coarse_prob"],
        union_classes=tuple(case["dropout_classes"] or ()),
        mask_out=case["mask_out_cityscapes"],
    )


def check_autolabel(fixture: Fixture) -> list[Row]:
    """Histogram of the whole target and every eighth pixel of it."""
    rows = []
    for case in fixture.header["cases"]:
        with tempfile.TemporaryDirectory() as folder:
            files = _write(Path(folder), case["seed"])
            auto = _rules(case, files)
            item = Item(name="x", image=Path(), label=files["ids"], auto=auto)
            target = read_item_label(item, SPEC)
        wanted = np.zeros(256, np.int64)
        for value, count in case["histogram"].items():
            wanted[int(value)] = count
        counts = np.bincount(target.ravel(), minlength=256)
        rows.append(compare(f"{case['label']}: histogram", counts, wanted))
        mask = fixture.arrays[case["mask"].split()[0]]
        rows.append(compare(f"{case['label']}: mask", target[::8, ::8], mask))
    return rows


CHECKS: dict[str, Callable[[Fixture], list[Row]]] = {"data_autolabel": check_autolabel}
