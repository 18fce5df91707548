# SPDX-License-Identifier: Apache-2.0
"""Samples that show where each of their pixels came from."""

from __future__ import annotations

import numpy as np

from transforms.sample import Sample

IGNORE = 255
NUM_CLASSES = 6


def ramp(height: int = 60, width: int = 90) -> Sample:
    """Red grows with the column, green with the row; the label is constant."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(20, 250, width).astype(np.uint8)
    image[..., 1] = np.linspace(20, 250, height).astype(np.uint8)[:, None]
    image[..., 2] = 128
    return Sample(image, np.ones((height, width), np.uint8), "ramp")


def blocks(height: int = 64, width: int = 96, side: int = 16, seed: int = 0) -> Sample:
    """Blocks of one class each; the grey level is 40 times (class + 1), so never black."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, NUM_CLASSES, (height // side, width // side))
    label = np.kron(classes, np.ones((side, side))).astype(np.uint8)
    return Sample(np.repeat((40 * (label + 1))[..., None], 3, axis=2), label, "blocks")


def noise(height: int = 40, width: int = 56, seed: int = 0) -> Sample:
    """Random colours and classes."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    return Sample(image, rng.integers(0, NUM_CLASSES, (height, width), np.uint8), "noise")


def aligned(sample: Sample, tolerance: int = 16) -> np.ndarray:
    """(H, W) bool: pixels of a moved `blocks` whose grey level is that of their class.

    Smoothed borders between blocks are allowed for: only pixels whose 5 x 5 neighbourhood is
    in the image and has one class are judged, the others count as aligned.
    """
    label = sample.label.astype(int)
    wanted = np.where(label == IGNORE, 0, 40 * (label + 1))
    padded = np.pad(label, 2, constant_values=-1)  # beyond the cut may lie another block
    height, width = label.shape
    shifted = [padded[i : i + height, j : j + width] for i in range(5) for j in range(5)]
    inner = np.all([shift == label for shift in shifted], axis=0)
    close = np.abs(sample.image.astype(int) - wanted[..., None]).max(2) <= tolerance
    return close | ~inner
