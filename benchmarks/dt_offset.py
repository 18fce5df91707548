# SPDX-License-Identifier: Apache-2.0
"""Boundary ground truth of a 512x683 label, the usual size of ADE20K, one thread.

    python -m benchmarks.dt_offset

Baseline: SciPy's distance transform and correlation of every class over the whole image.
"""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
from scipy.ndimage import correlate, distance_transform_edt

from benchmarks.measure import print_table, time_in_turn
from transforms.boundary import (
    COLUMN_KERNEL,
    MAX_DEPTH,
    MIN_PIXELS,
    ROW_KERNEL,
    Map,
    boundary_maps,
)

HEIGHT, WIDTH, NUM_CLASSES, NUM_USED = 512, 683, 150, 18


def draw() -> Map:
    """A label (H, W) uint8 of blobs of `NUM_USED` classes."""
    rng = np.random.default_rng(0)
    fields = rng.standard_normal((NUM_USED, 16, 20)).astype(np.float32)
    large = [cv2.resize(field, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for field in fields]
    return np.argmax(np.stack(large), axis=0).astype(np.uint8)


def whole_image_maps(label: Map, num_classes: int) -> tuple[Map, Map]:
    """The published procedure: each class by itself over the whole image."""
    depth = np.zeros(label.shape, np.float32)
    rows, columns = np.zeros_like(depth), np.zeros_like(depth)
    for class_id in range(num_classes):
        mask = label == class_id
        if mask.sum() < MIN_PIXELS:
            continue
        distance = distance_transform_edt(mask).astype(np.float32)
        depth += distance
        rows += np.where(mask, correlate(distance, ROW_KERNEL, mode="constant"), 0)
        columns += np.where(mask, correlate(distance, COLUMN_KERNEL, mode="constant"), 0)
    direction = (np.degrees(np.arctan2(rows, columns)) + 180) / 2
    return np.minimum(depth, MAX_DEPTH).astype(np.uint8), direction.astype(np.uint8)


def main() -> None:
    """Compare, measure, print."""
    cv2.setNumThreads(0)
    label = draw()
    sides = {
        "whole image a class": partial(whole_image_maps, label, NUM_CLASSES),
        "ours": partial(boundary_maps, label, NUM_CLASSES),
    }
    published, ours = (side() for side in sides.values())
    assert np.array_equal(published[0], ours[0])
    apart = np.abs(published[1].astype(int) - ours[1])
    assert np.mean(np.minimum(apart, 180 - apart) <= 1) > 0.999
    print_table("boundary maps, equal distances", time_in_turn(sides, rounds=5), limit=0.5)


if __name__ == "__main__":
    main()
