# SPDX-License-Identifier: Apache-2.0
"""PASCAL-Context: 59 classes, and the background around them as a class of its own or as void.

    ROOT/{train,val}/image/*.jpg
    ROOT/{train,val}/label/*.png       0 background, 1..59 classes

`pascal_context` has 60 classes, 0 among them; nothing but 255 is ignored. `pascal_context_59` is
the protocol of most papers: 0 is ignored, v is class v - 1. ROOT is the folder PASCAL_Context, or
the one that holds it. There is no test split: papers score the 5105 images of val.

Source: Mottaghi et al., "The Role of Context for Object Detection and Semantic Segmentation in
the Wild", CVPR 2014.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from datasets.base import DataError
from datasets.folder import paired_items
from datasets.listing import Items
from datasets.spec import IGNORE, LABELS_DIR, DatasetSpec, read_spec_csv, zero_label_ids
from datasets.table import TABLE

ARCHIVE = "PASCAL_Context"
SPLITS = TABLE["pascal_context"].splits


def _specs() -> tuple[DatasetSpec, DatasetSpec]:
    """The specs with 60 and with 59 classes."""
    every = read_spec_csv(LABELS_DIR / "pascal_context.csv", "pascal_context")
    with_background = replace(
        every, id_to_train_id={**every.id_to_train_id, IGNORE: IGNORE}, boundary_void=(0,)
    )
    without = DatasetSpec(
        name="pascal_context_59",
        class_names=every.class_names[1:],
        palette=every.palette[1:],
        id_to_train_id=zero_label_ids(every.num_classes - 1),
        ignore_label=IGNORE,
        train_id_to_id=every.train_id_to_id[1:],
        zero_label=True,
    )
    return with_background, without


SPEC, SPEC_59 = _specs()


def list_items(root: Path, split: str) -> Items:
    """The images of "train" or "val" by name.

    Raises DataError for the test split, a missing folder, an empty split, and an image without a
    label.
    """
    if split not in SPLITS:
        raise DataError(f"pascal_context has no split {split}; it has {' and '.join(SPLITS)}")
    root = root / ARCHIVE if (root / ARCHIVE).is_dir() else root
    return paired_items(root / split / "image", root / split / "label")
