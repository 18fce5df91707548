# SPDX-License-Identifier: Apache-2.0
"""Class-uniform centroids of a 1024x2048 label with tiles of 1024, one thread.

    python -m benchmarks.centroids

Baseline: SciPy's centre of mass of every class in every tile.
"""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
from scipy.ndimage import center_of_mass

from benchmarks.measure import print_table, time_in_turn
from datasets.centroids import Points, label_centroids

HEIGHT, WIDTH, TILE, NUM_CLASSES = 1024, 2048, 1024, 19


def draw() -> np.ndarray:
    """A label (H, W) uint8 of blobs: the strongest of smooth random fields, one in ten ignored."""
    rng = np.random.default_rng(0)
    fields = rng.standard_normal((NUM_CLASSES + 1, 16, 32)).astype(np.float32)
    fields[NUM_CLASSES] += 0.5
    large = [cv2.resize(field, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for field in fields]
    label = np.argmax(np.stack(large), axis=0)
    return np.where(label == NUM_CLASSES, 255, label).astype(np.uint8)


def published_centroids(label: np.ndarray, num_classes: int, tile: int) -> Points:
    """The published procedure: every tile, every class, the centre of mass of its mask."""
    points: Points = {}
    for top in range(0, label.shape[0] - tile + 1, tile):
        for left in range(0, label.shape[1] - tile + 1, tile):
            patch = label[top : top + tile, left : left + tile]
            for class_id in range(num_classes):
                mask = patch == class_id
                if mask.any():
                    y, x = center_of_mass(mask)
                    points.setdefault(class_id, []).append((int(x) + left, int(y) + top))
    return points


def main() -> None:
    """Compare, measure, print."""
    cv2.setNumThreads(0)
    label = draw()
    sides = {
        "centre_of_mass a tile and class": partial(published_centroids, label, NUM_CLASSES, TILE),
        "ours": partial(label_centroids, label, NUM_CLASSES, TILE),
    }
    published, ours = (side() for side in sides.values())
    assert published == ours
    print_table("class-uniform centroids, equal points", time_in_turn(sides, rounds=10), limit=0.1)


if __name__ == "__main__":
    main()
