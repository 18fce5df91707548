# SPDX-License-Identifier: Apache-2.0
"""Boundary ground truth of label maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest

from transforms.boundary import (
    ANGLE,
    DEPTH,
    FIXED_ANGLE,
    MAX_DEPTH,
    MIN_PIXELS,
    NO_DIRECTION,
    boundary_maps,
)
from transforms.joint import HorizontalFlip, RandomRotate
from transforms.randaugment import Operation, apply_operation
from transforms.sample import EXTRA_PAD, Sample

VOID = 255


def halves() -> np.ndarray:
    """Class 0 on the left, class 1 on the right of a 20x30 image."""
    label = np.zeros((20, 30), np.uint8)
    label[:, 12:] = 1
    return label


def test_distance_counts_from_the_boundary_and_the_image_border_is_none() -> None:
    depth, _ = boundary_maps(halves(), 2)
    assert depth[0].tolist() == [*range(12, 0, -1), *range(1, 19)]


def test_directions_point_to_the_inside() -> None:
    _, direction = boundary_maps(halves(), 2)
    degrees = direction.astype(int) * 2 - 180
    assert abs(degrees[10, 11]) == 180 and degrees[10, 12] == 0  # left, right
    _, direction = boundary_maps(np.ascontiguousarray(halves().T), 2)
    degrees = direction.astype(int) * 2 - 180
    assert degrees[11, 10] == -90 and degrees[12, 10] == 90  # rows downwards


def test_the_maps_do_not_depend_on_where_the_label_lies_in_memory() -> None:
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:90, :160]
    label = np.zeros((90, 160), np.uint8)
    for number in range(15):  # boxes and ellipses, so that some pixels lie halfway between sides
        top, left = rng.integers(0, 80), rng.integers(0, 140)
        high, wide = rng.integers(5, 30), rng.integers(5, 60)
        inside = (rows >= top) & (rows < top + high) & (columns >= left) & (columns < left + wide)
        if number % 2:
            inside = ((rows - top) / high) ** 2 + ((columns - left) / wide) ** 2 < 0.25
        label[inside] = 1 + number % 5
    seen, kept = set(), []
    for _ in range(40):
        kept.append(np.empty(rng.integers(1, 5000), np.uint8))  # moves what is made next
        seen.add(b"".join(part.tobytes() for part in boundary_maps(label, 6)))
    assert len(seen) == 1


def test_void_and_small_classes_and_background_make_no_region() -> None:
    label = halves()
    label[:5, :5] = VOID
    label[10:12, 20:25] = 2  # 10 pixels
    depth, direction = boundary_maps(label, 3)
    for part in (label == VOID, label == 2):
        assert (depth[part] == 0).all() and (direction[part] == NO_DIRECTION).all()
    assert (depth[(label == 0) | (label == 1)] > 0).all()
    background, _ = boundary_maps(halves(), 2, void_classes=[0])
    assert (background[:, :12] == 0).all() and (background[:, 12:] > 0).all()


def test_a_class_counts_over_the_whole_image_from_a_hundred_pixels_on() -> None:
    label = np.zeros((40, 40), np.uint8)
    label[:5, :10] = label[-5:, -10:] = 1
    assert (label == 1).sum() == MIN_PIXELS
    assert (boundary_maps(label, 2)[0][label == 1] > 0).all()
    label[0, 0] = 0
    assert (boundary_maps(label, 2)[0][label == 1] == 0).all()


def test_one_class_everywhere_is_all_inside_and_void_everywhere_is_nothing() -> None:
    depth, direction = boundary_maps(np.ones((30, 30), np.uint8), 2)
    assert (depth == MAX_DEPTH).all() and (direction == NO_DIRECTION).all()
    assert (boundary_maps(np.full((30, 30), VOID, np.uint8), 2)[0] == 0).all()


def sample_with(name: str, label: np.ndarray) -> Sample:
    depth, direction = boundary_maps(label, 2)
    image = np.zeros((*label.shape, 3), np.uint8)
    return Sample(image=image, label=label, name="x", extras={DEPTH: depth, name: direction})


def test_a_mirrored_image_has_the_maps_of_the_mirrored_label() -> None:
    label = np.zeros((40, 60), np.uint8)
    label[8:30, 10:31] = 1
    flipped = HorizontalFlip().apply(sample_with(ANGLE, label), True)
    depth, direction = boundary_maps(np.ascontiguousarray(label[:, ::-1]), 2)
    assert np.array_equal(flipped.extras[DEPTH], depth)
    apart = np.abs(flipped.extras[ANGLE].astype(int) - direction)
    apart = np.minimum(apart, 180 - apart)
    assert np.mean(apart <= 1) > 0.97  # truncation goes down on both sides; ridges are noise
    unturned = np.abs(sample_with(ANGLE, label).extras[ANGLE][:, ::-1].astype(int) - direction)
    assert np.mean(np.minimum(unturned, 180 - unturned) <= 1) < 0.7


@pytest.mark.parametrize(
    "move",
    [
        lambda sample: RandomRotate(40, VOID).apply(sample, 31.0),
        lambda sample: RandomRotate(40, VOID).apply(sample, -8.0),
        *(
            partial(apply_operation, operation=Operation(name, value), ignore_label=VOID)
            for name, value in (("Rotate", 25.0), ("ShearX", 0.3), ("ShearY", -0.3))
        ),
    ],
    ids=["rotate", "back", "Rotate", "ShearX", "ShearY"],
)
def test_a_moved_image_has_the_angles_of_the_moved_label(
    move: Callable[[Sample], Sample],
) -> None:
    label = np.zeros((90, 120), np.uint8)
    label[25:60, 35:80] = 1
    before = sample_with(ANGLE, label)
    after = move(before)
    depth, wanted = boundary_maps(after.label, 2)
    near = cv2.dilate((after.label == 1).astype(np.uint8), np.ones((11, 11), np.uint8)) > 0
    border = near & (depth <= 5) & (depth > 1)  # at the next pixel the steps of the line are seen
    apart = np.abs(after.extras[ANGLE][border].astype(int) - wanted[border])
    assert np.mean(np.minimum(apart, 180 - apart) <= 5) > 0.8
    still = move(replace(before, extras={FIXED_ANGLE: before.extras[ANGLE]})).extras[FIXED_ANGLE]
    apart = np.abs(still[border].astype(int) - wanted[border])
    assert np.mean(np.minimum(apart, 180 - apart)) > 3
    assert (after.extras[DEPTH] == EXTRA_PAD).any()
    assert np.array_equal(after.extras[ANGLE] == EXTRA_PAD, after.extras[DEPTH] == EXTRA_PAD)
    assert np.array_equal(after.label == VOID, after.extras[DEPTH] == EXTRA_PAD)


def test_the_published_way_leaves_angles_as_they_were() -> None:
    sample = sample_with(FIXED_ANGLE, halves())
    flipped = HorizontalFlip().apply(sample, True)
    assert np.array_equal(flipped.extras[FIXED_ANGLE], sample.extras[FIXED_ANGLE][:, ::-1])
