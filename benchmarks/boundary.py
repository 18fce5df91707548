# SPDX-License-Identifier: Apache-2.0
"""Boundary F-score of 1024x2048 images with 19 classes, one thread: time per image while streaming.

python -m benchmarks.boundary            # against scikit-image's dilation, about a minute
python -m benchmarks.boundary --quick    # without that comparison
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import dilation, disk

from benchmarks.measure import print_table, time_in_turn
from metrics.boundary import boundary_f, boundary_radius, outline
from metrics.boundary_scores import HMSA_THRESHOLD, BoundaryScores

SIZE, NUM_CLASSES = (1024, 2048), 19
HILA_THRESHOLDS = (0.00088, 0.001875, 0.00375, 0.005)  # 3, 5, 9 and 12 px
LIMIT = 0.2  # seconds per image on two cores
Bytes = NDArray[np.uint8]


def streets() -> dict[str, tuple[Bytes, Bytes]]:
    """Prediction and label: of large blocks, and of smooth shapes with six times the outline."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, NUM_CLASSES, (8, 16)).astype(np.uint8)
    label = blocks.repeat(SIZE[0] // 8, axis=0).repeat(SIZE[1] // 16, axis=1)
    waves = rng.random((12, 24, NUM_CLASSES)).astype(np.float32)
    large = [
        cv2.resize(waves[..., k], SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        for k in range(NUM_CLASSES)
    ]
    shapes = np.argmax(large, axis=0).astype(np.uint8)
    return {
        "blocks": (np.roll(label, (6, 9), (0, 1)), label),
        "shapes": (np.roll(shapes, (2, 3), (0, 1)), shapes),
    }


def dilated_precision(pred: Bytes, label: Bytes, threshold: float) -> list[float]:
    """Share of each class's predicted outline that lies near the true one."""
    footprint = disk(boundary_radius(*SIZE, threshold))
    shares = []
    for k in range(NUM_CLASSES):
        near = [outline(each == k) for each in (pred, label)]
        grown = [dilation(edge, footprint) for edge in near]  # recall needs the other one
        shares.append(float((near[0] & grown[1]).sum() / near[0].sum()))
    return shares


def compare(pred: Bytes, label: Bytes, threshold: float) -> None:
    """Equal precision, and the time of both; the baseline runs once, which is slow enough."""
    start = time.process_time()
    want = dilated_precision(pred, label, threshold)
    seconds = {"skimage dilation": time.process_time() - start}
    assert boundary_f(pred, label, NUM_CLASSES, (threshold,))[0, 1].tolist() == want
    seconds |= time_in_turn(
        {"ours": lambda: boundary_f(pred, label, NUM_CLASSES, (threshold,))}, rounds=3
    )
    radius = boundary_radius(*SIZE, threshold)
    print_table(f"boundary F within {radius} px, equal precision", seconds, limit=0.03)


def stream(name: str, pred: Bytes, label: Bytes) -> None:
    """Seconds per image of all ways to score outlines."""
    ways = {
        "HILA's 3 px": BoundaryScores(NUM_CLASSES, HILA_THRESHOLDS[:1]),
        "3, 5, 9 and 12 px": BoundaryScores(NUM_CLASSES, HILA_THRESHOLDS),
        "HMSA's 19 px": BoundaryScores(NUM_CLASSES, (HMSA_THRESHOLD,)),
        "modified, 3 px": BoundaryScores(NUM_CLASSES, modified=True),
    }
    seconds = time_in_turn(
        {way: partial(scores.update, pred, label) for way, scores in ways.items()},
        rounds=7,
    )
    share = outline(label).mean()
    print(f"streaming, {name}: {100 * share:.1f} % of the pixels on outlines (limit {LIMIT:g} s)")
    for way, value in seconds.items():
        print(f"  {way:32} {1e3 * value:9.2f} ms per image")


def main(argv: Sequence[str]) -> None:
    """Compare, measure, print."""
    cv2.setNumThreads(1)
    images = streets()
    for name, pair in images.items():
        stream(name, *pair)
    if "--quick" not in argv:
        for threshold in (HILA_THRESHOLDS[0], HMSA_THRESHOLD):
            compare(*images["blocks"], threshold)


if __name__ == "__main__":
    main(sys.argv[1:])
