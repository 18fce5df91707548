# SPDX-License-Identifier: Apache-2.0
"""RandAugment: which operations move the label, what fills the gaps, what is drawn."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from tests.transforms.drawings import IGNORE, aligned, blocks, noise
from transforms.randaugment import (
    GEOMETRIC,
    RANGES,
    Operation,
    RandAugment,
    apply_operation,
    magnitude_value,
)
from transforms.sample import PAD_ROW


def strong(name: str, sign: int = 1) -> Operation:
    return Operation(name, sign * magnitude_value(name, 30))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_geometric_operations_move_image_and_label_alike(name, sign):
    sample = blocks()
    moved = apply_operation(sample, strong(name, sign), IGNORE)
    assert not np.array_equal(moved.label, sample.label)
    assert aligned(moved, tolerance=20).mean() > 0.995


@pytest.mark.parametrize("name", GEOMETRIC)
def test_extra_maps_move_with_the_label(name):
    sample = blocks()
    sample.extras = {"bytes": sample.label.copy(), "floats": sample.label.astype(np.float32)}
    moved = apply_operation(sample, strong(name), IGNORE)
    for values in moved.extras.values():
        assert np.array_equal(values, moved.label)


@pytest.mark.parametrize("name", GEOMETRIC)
def test_uncovered_pixels_get_the_ignore_label_of_the_data_set(name):
    moved = apply_operation(blocks(), strong(name), 65)
    assert (moved.label == 65).any()
    assert not moved.image[moved.label == 65].max(-1).all()


@pytest.mark.parametrize("name", sorted(set(RANGES) - set(GEOMETRIC)))
def test_the_other_operations_leave_the_label(name):
    sample = noise()
    changed = apply_operation(sample, strong(name), IGNORE)
    assert changed.label is sample.label
    assert changed.image.shape == sample.image.shape


def test_translation_moves_the_row_positions_and_marks_what_is_gone():
    sample = blocks(height=64)
    moved = apply_operation(sample, Operation("TranslateY", 0.25), IGNORE)
    assert moved.rows[:48] == pytest.approx(sample.rows[16:])
    assert (moved.rows[48:] == PAD_ROW).all()


def test_rotation_keeps_the_row_positions_of_the_centre():
    rows = apply_operation(blocks(), Operation("Rotate", 5.0), IGNORE).rows
    assert rows[32] == pytest.approx(0.5, abs=0.03)


def test_draws_cover_all_operations_and_both_signs():
    drawn = [
        operation
        for seed in range(200)
        for operation in RandAugment(2, 10, IGNORE).draw(random.Random(seed))
    ]
    assert len(drawn) == 400
    assert {operation.name for operation in drawn} == set(RANGES)
    shears = [operation.value for operation in drawn if operation.name == "ShearX"]
    assert sorted(set(shears)) == pytest.approx([-0.1, 0.1])


def test_samples_without_label_pass():
    sample = replace(noise(), label=None)
    assert RandAugment(3, 10, IGNORE)(sample, np.random.default_rng(0)).label is None


@pytest.mark.parametrize(("count", "magnitude"), [(-1, 5), (2, 31), (2, -1)])
def test_useless_settings_are_refused(count, magnitude):
    with pytest.raises(ValueError, match="rand_augment"):
        RandAugment(count, magnitude, IGNORE)
