# SPDX-License-Identifier: Apache-2.0
"""Boundary F-score of a 1024x2048 image against scikit-image's dilation with a disk, one thread.

python -m benchmarks.boundary        # the baseline takes over a minute, twice
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import dilation, disk

from benchmarks.alternate import print_table, time_alternately
from metrics.boundary import boundary_f, boundary_map, boundary_radius

SIZE, NUM_CLASSES, THRESHOLD = (1024, 2048), 19, 0.008
Bytes = NDArray[np.uint8]


def dilated_precision(pred: Bytes, label: Bytes) -> list[float]:
    """Share of each class's predicted outline that lies near the true one."""
    footprint = disk(boundary_radius(*SIZE, THRESHOLD))
    shares = []
    for k in range(NUM_CLASSES):
        near = [boundary_map((m == k).astype(np.uint8)) for m in (pred, label)]
        grown = [dilation(edge, footprint) for edge in near]  # recall needs the other one
        shares.append(float((near[0] & grown[1]).sum() / near[0].sum()))
    return shares


def main() -> None:
    """Compare, measure, print."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, NUM_CLASSES, (8, 16)).astype(np.uint8)
    label = blocks.repeat(SIZE[0] // 8, axis=0).repeat(SIZE[1] // 16, axis=1)
    pred = np.roll(label, (6, 9), (0, 1))
    _, precision, _ = boundary_f(pred, label, NUM_CLASSES, THRESHOLD)
    assert precision.tolist() == dilated_precision(pred, label)
    seconds = time_alternately(
        {
            "skimage dilation": lambda: dilated_precision(pred, label),
            "ours": lambda: boundary_f(pred, label, NUM_CLASSES, THRESHOLD),
        },
        rounds=1,
    )
    print_table("boundary F, 1024x2048, 19 classes, equal precision", seconds, limit=0.03)


if __name__ == "__main__":
    main()
