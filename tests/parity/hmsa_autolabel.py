# SPDX-License-Identifier: Apache-2.0
"""The recorded targets of auto-labelled images, through files as training reads them."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.base import read_item_label
from datasets.cityscapes import SPEC
from datasets.spec import AutoLabel, Item
from tests.parity import recipe
from tests.parity.core import Check, Row, compare
from tests.parity.fixture import Fixture, Record, first_case

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


def _rules(case: Record, files: dict[str, Path]) -> AutoLabel | None:
    """What the recorded program applied: its rules went by the folder's name.

    Here they go by the configured root, so the case whose folder has another name is that of a
    label to which no rule belongs. The label of a path with `vidseq` in it keeps the classes of the
    network: none is taken from the annotators.
    """
    if "refinement" not in case["directory"]:
        return None
    video = case.get("path_contains_vidseq", False)
    return AutoLabel(
        prob=files["prob"],
        coarse=files["coarse"],
        threshold=case["custom_coarse_prob"],
        union_classes=() if video else tuple(case["dropout_classes"] or ()),
        mask_out=case["mask_out_cityscapes"],
    )


def check_autolabel(fixture: Fixture) -> list[Row]:
    """Histogram of the whole target and every n-th pixel of it."""
    rows = []
    for number, case in enumerate(fixture.cases):
        with tempfile.TemporaryDirectory() as folder:
            files = _write(Path(folder), case["seed"])
            auto = _rules(case, files)
            item = Item(name="x", image=Path(), label=files["ids"], auto=auto)
            target = read_item_label(item, SPEC)
        wanted = np.zeros(256, np.int64)
        for value, count in case["histogram"].items():
            wanted[int(value)] = count
        counts = np.bincount(target.ravel(), minlength=256)
        name = f"{fixture.name}/{number}"
        rows.append(compare(f"{name} histogram", counts, wanted))
        found = re.search(r"stride (\d+)", case["mask"])
        step = int(found[1]) if found else 1
        mask = fixture.arrays[case["mask"].split()[0]]
        rows.append(compare(f"{name} mask", target[::step, ::step], mask))
    return rows


CHECKS = (
    Check(
        "hmsa automatic labels",
        lambda fixture: "custom_coarse_prob" in first_case(fixture),
        check_autolabel,
        {
            "cases.*.label": "what the case is called",
            "cases.*.directory": "only whether it says refinement matters",
            "cases.*.custom_coarse_prob": "of no effect on a label without rules",
            "cases.*.dropout_classes": "likewise",
            "cases.*.mask_out_cityscapes": "likewise",
            "cases.*.path_contains_vidseq": "likewise",
        },
    ),
)
