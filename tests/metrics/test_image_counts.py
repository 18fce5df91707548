# SPDX-License-Identifier: Apache-2.0
"""Confusion matrices of single images, kept sparse."""

from __future__ import annotations

import numpy as np
import pytest

from metrics.image_counts import ImageCounts, ImageEntries

NAMES = ("road", "car", "sky")


def matrices(count: int, classes: int = 3) -> np.ndarray:
    """(N, K, K) counts, half of them 0."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 50, (count, classes, classes)) * rng.integers(0, 2, (count, 1, classes))


def counts_of(found: np.ndarray) -> ImageCounts:
    """The images x0, x1, ... with these matrices, given in reverse."""
    images = {i: ImageEntries.of(f"x{i}", matrix) for i, matrix in enumerate(found)}
    return ImageCounts.of(NAMES, dict(reversed(images.items())))


def test_areas_are_those_of_the_dense_matrices() -> None:
    found = matrices(7)
    counts = counts_of(found)
    assert counts.names == tuple(f"x{i}" for i in range(7))
    right, label, prediction = np.split(counts.areas().toarray(), 3, axis=1)
    assert (right == np.stack([np.diag(matrix) for matrix in found])).all()
    assert (label == found.sum(2)).all() and (prediction == found.sum(1)).all()


def test_some_images_can_be_taken_in_any_order() -> None:
    found = matrices(5)
    taken = counts_of(found).take(["x3", "x0"])
    assert taken.names == ("x3", "x0")
    assert (taken.areas().toarray() == counts_of(found[[3, 0]]).areas().toarray()).all()
    with pytest.raises(KeyError):
        counts_of(found).take(["y"])


def test_an_image_without_a_scored_pixel_is_an_image_all_the_same() -> None:
    counts = counts_of(np.zeros((2, 3, 3), np.int64))
    assert counts.areas().toarray().tolist() == [[0] * 9] * 2
