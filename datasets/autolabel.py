# SPDX-License-Identifier: Apache-2.0
"""Labels made by a network: ids, its confidence, and the rules that turn them into targets.

The item (`spec.AutoLabel`) says which rules apply, never the name of a folder.
"""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np
import numpy.typing as npt

from datasets.spec import AutoLabel, DatasetSpec

Picture = npt.NDArray[np.uint8]

# The part of a Cityscapes frame that is kept with `mask_out`, as (first, last + 1) pixels: the
# rectification leaves a border, and the bonnet of the recording car fills the rest.
FRAME = (1024, 2048)
KEPT_ROWS, KEPT_COLS = (15, 840), (14, 2030)
_WON = -1  # in place of an id that the annotators overruled


def train_ids(
    ids: Picture, prob: Picture | None, coarse: Picture | None, spec: DatasetSpec, rules: AutoLabel
) -> Picture:
    """The target of an auto-labelled image, (H, W) uint8 train ids.

    ids, coarse: (H, W) raw ids of the network and of the annotators, all known to `spec`; prob:
    (H, W) confidence times 255. In this order: with `mask_out` the border of `ids` becomes void;
    the pixels that `coarse` gives a union class get it (see `_unite`); pixels below the
    threshold become void.
    """
    lut = spec.lut().clip(0).astype(np.uint8)
    ignored = np.asarray(spec.lut() == spec.ignore_label)
    if rules.mask_out:
        ids = _mask_out(ids, int(np.flatnonzero(ignored)[0]))
    target = np.asarray(cv2.LUT(ids, lut), np.uint8)
    if coarse is not None and rules.union_classes:
        _unite(target, ids, coarse, spec, rules.union_classes)
    if prob is not None and rules.threshold is not None:
        target[prob < 255 * rules.threshold] = spec.ignore_label
    return target


def _unite(
    target: Picture, ids: Picture, coarse: Picture, spec: DatasetSpec, classes: Collection[int]
) -> None:
    """Give `target` the pixels that the annotators gave `classes`, in place.

    The ids are visited in table order. An id of a listed class wins every pixel that `coarse` gives
    it, whatever the network says there, provided that the network's label still contains the id:
    pixels won by an earlier id have left that label.
    """
    left = ids.astype(np.int16)
    for raw, train_id in spec.id_to_train_id.items():
        if train_id in classes and (left == raw).any():
            won = coarse == raw
            target[won] = train_id
            left[won] = _WON


def _mask_out(ids: Picture, void: int) -> Picture:
    """`ids` with the border of the frame as `void`; the rectangle is scaled to their size."""
    height, width = ids.shape
    rows = slice(*(round(row * height / FRAME[0]) for row in KEPT_ROWS))
    cols = slice(*(round(col * width / FRAME[1]) for col in KEPT_COLS))
    masked = np.full_like(ids, void)
    masked[rows, cols] = ids[rows, cols]
    return masked
