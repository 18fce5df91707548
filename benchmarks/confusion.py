# SPDX-License-Identifier: Apache-2.0
"""Confusion matrix of a 1024x2048 image against masked NumPy bincount, one thread.

python -m benchmarks.confusion
"""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.measure import print_table, time_in_turn
from metrics.confusion import confusion_matrix

HEIGHT, WIDTH, NUM_CLASSES = 1024, 2048, 19
AGREEMENT = 0.9  # share of the pixels whose prediction is copied from the label


def masked_bincount(
    pred: NDArray[np.int64], label: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    """The published procedure: keep labelled pixels, one index per pair, count."""
    known = (label >= 0) & (label < num_classes)
    pairs = num_classes * label[known].astype(np.int64) + pred[known]
    counts = np.bincount(pairs, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def draw() -> tuple[Tensor, Tensor]:
    """Prediction and label (H, W) int64: 128-pixel blocks, one in twelve ignored, some errors."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, NUM_CLASSES, (HEIGHT // 128, WIDTH // 128))
    blocks[rng.uniform(size=blocks.shape) < 1 / 12] = 255
    label = blocks.repeat(128, axis=0).repeat(128, axis=1)
    noise = rng.integers(0, NUM_CLASSES, label.shape)
    copied = (rng.uniform(size=label.shape) < AGREEMENT) & (label < NUM_CLASSES)
    return torch.from_numpy(np.where(copied, label, noise)), torch.from_numpy(label)


def main() -> None:
    """Compare, measure, print: maps as int64 (as a network gives them) and as uint8."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    pred, label = draw()
    want = masked_bincount(pred.numpy(), label.numpy(), NUM_CLASSES)
    for dtype in (torch.int64, torch.uint8):
        ours = pred.to(dtype), label.to(dtype)
        assert np.array_equal(confusion_matrix(*ours, NUM_CLASSES).numpy(), want)
        baseline = partial(masked_bincount, pred.numpy(), label.numpy(), NUM_CLASSES)
        seconds = time_in_turn(
            {
                "masked NumPy bincount, int64": baseline,
                f"ours, {dtype}": partial(confusion_matrix, *ours, NUM_CLASSES),
            },
            rounds=30,
        )
        limit = 0.25 if dtype == torch.uint8 else None  # promised for byte maps
        print_table("confusion matrix, 1024x2048, equal counts", seconds, limit)


if __name__ == "__main__":
    main()
