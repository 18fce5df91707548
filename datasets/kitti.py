# SPDX-License-Identifier: Apache-2.0
"""KITTI semantic segmentation: 200 labelled frames with the ids of Cityscapes.

    ROOT/training/image_2/*.png
    ROOT/training/semantic/*.png     raw ids of Cityscapes
    ROOT/testing/image_2/*.png

The set has no validation split: each fold of the cross-validation holds out 21 listed frames,
numbered in the order of their names.

Source: Alhaija et al., "Augmented Reality Meets Computer Vision", IJCV 2018; folds as published
with HANet (Choi, Kim, Choo, CVPR 2020).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from datasets import cityscapes
from datasets.base import DataError
from datasets.listing import Items, Pairing, images_in

SPLITS = ("train", "val", "trainval", "test")
NUM_FRAMES = 200
VAL_FRAMES = (
    (1, 5, 11, 29, 35, 49, 57, 68, 72, 82, 93, 115, 119, 130, 145, 154, 156, 167, 169, 189, 198),
    (0, 12, 24, 31, 42, 50, 63, 71, 84, 96, 101, 112, 121, 133, 141, 155, 164, 171, 187, 191, 197),
    (3, 6, 13, 21, 41, 54, 61, 73, 88, 91, 110, 121, 126, 131, 142, 149, 150, 163, 173, 183, 199),
)
SPEC = dataclasses.replace(cityscapes.SPEC, name="kitti")


def list_items(root: Path, split: str, *, cv: int = 0) -> Items:
    """The frames of "train", "val", "trainval" (all 200) or "test" (no labels) by name.

    cv: fold 0..2 that "val" holds and "train" lacks. Raises DataError for an unknown split or
    fold, a missing folder, an image without a label, and a set that is not complete.
    """
    if split not in SPLITS:
        raise DataError(f"kitti has no split {split}; one of {', '.join(SPLITS)} wanted")
    if not 0 <= cv < len(VAL_FRAMES):
        raise DataError(f"--cv {cv}: kitti has the folds 0..{len(VAL_FRAMES) - 1}")
    images = root / ("testing" if split == "test" else "training") / "image_2"
    frames = images_in(images, ".png")
    empty = f"{images}: no *.png for split {split}"
    pairing = Pairing(whole=split == "trainval")
    if split == "test":
        for frame in frames:
            pairing.add(frame.stem, frame, None)
        return pairing.finish(empty)
    if not frames:
        raise DataError(empty)
    if len(frames) != NUM_FRAMES:
        raise DataError(
            f"{images}: {len(frames)} images, but the folds are numbers of {NUM_FRAMES} frames"
        )
    held_out = set(VAL_FRAMES[cv])
    wanted = {"train": set(range(NUM_FRAMES)) - held_out, "val": held_out}
    for number in sorted(wanted.get(split, range(NUM_FRAMES))):
        frame = frames[number]
        pairing.add(frame.stem, frame, root / "training" / "semantic" / frame.name)
    return pairing.finish(empty)
