# SPDX-License-Identifier: Apache-2.0
"""ADE20K of the scene parsing challenge 2016: 150 classes, 0 in the files is unlabelled.

    ROOT/images/{training,validation}/*.jpg
    ROOT/annotations/{training,validation}/*.png     0 unlabelled, 1..150 classes
    ROOT/images/testing/*.jpg                        no labels; or release_test/testing

ROOT is the folder ADEChallengeData2016, or the one that holds it. Images in sub-folders count.
Two classes share a colour (road and skyscraper), so colours cannot be turned into classes.

Source: Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from datasets.base import DataError
from datasets.folder import paired_items
from datasets.listing import Items
from datasets.spec import LABELS_DIR, read_spec_csv, zero_label_ids

NUM_CLASSES = 150
SPEC = replace(
    read_spec_csv(LABELS_DIR / "ade20k.csv", "ade20k"),
    id_to_train_id=zero_label_ids(NUM_CLASSES),
    zero_label=True,
)
ARCHIVE = "ADEChallengeData2016"
FOLDERS = {"train": "training", "val": "validation"}
TEST_FOLDERS = ("images/testing", "images/test", "release_test/testing", "../release_test/testing")


def list_items(root: Path, split: str) -> Items:
    """The images of "train", "val" or "test" by name; the test split has no labels.

    Raises DataError for a missing folder, an empty split, and an image without a label.
    """
    root = root / ARCHIVE if (root / ARCHIVE).is_dir() else root
    if split == "test":
        return paired_items(_test_folder(root), None)
    folder = FOLDERS[split]
    return paired_items(root / "images" / folder, root / "annotations" / folder)


def _test_folder(root: Path) -> Path:
    for name in TEST_FOLDERS:
        if (root / name).is_dir():
            return root / name
    raise DataError(f"{root}: no test images there, in {' or '.join(TEST_FOLDERS)}")
