# SPDX-License-Identifier: Apache-2.0
"""Whole pipelines: published order, and the same bytes from the same draw."""

from __future__ import annotations

import numpy as np
import pytest

from datasets.samplers import Draw
from tests.transforms.drawings import IGNORE, aligned, blocks, noise
from transforms.joint import CropRules, RandomScale
from transforms.pipeline import eval_pipeline, train_pipeline

FULL = {
    "blur": "gauss", "rand_augment": (2, 10), "scale": RandomScale(pre_size=100),
    "crop": CropRules(slide_small=True),
}  # fmt: skip


def names(compose: object) -> list[str]:
    return [type(transform).__name__ for transform in compose.transforms]


def test_training_transforms_come_in_the_published_order():
    pipeline = train_pipeline(crop_size=(32, 32), ignore_label=IGNORE, **FULL)
    assert names(pipeline) == [
        "RandomSizeAndCrop", "HorizontalFlip", "RandAugment", "ColorJitter", "GaussianBlur"
    ]  # fmt: skip


def test_what_is_off_is_not_in_the_pipeline():
    pipeline = train_pipeline(crop_size=(32, 32), ignore_label=IGNORE, color_aug=0)
    assert names(pipeline) == ["RandomSizeAndCrop", "HorizontalFlip"]


def test_validation_does_nothing_unless_asked():
    sample = noise()
    untouched = eval_pipeline(ignore_label=IGNORE)(sample, np.random.default_rng(0))
    assert untouched is sample


def test_validation_scales_the_long_edge_or_makes_a_square():
    rng = np.random.default_rng(0)
    assert eval_pipeline(ignore_label=IGNORE, pre_size=28)(noise(), rng).size == (20, 28)
    square = eval_pipeline(ignore_label=IGNORE, pre_size=28, map_crop_val=True)
    assert square(noise(), rng).size == (28, 28)


def test_a_square_without_size_is_that_of_the_mapillary_protocol():
    pipeline = eval_pipeline(ignore_label=IGNORE, map_crop_val=True)
    sample = pipeline(noise(), np.random.default_rng(0))
    assert sample.size == (1536, 1536)
    assert sample.label.shape == (1536, 1536)


@pytest.mark.parametrize(
    "options", [{}, FULL, {"blur": "bilateral", "crop": CropRules(full_crop=True)}]
)
def test_the_same_draw_gives_the_same_bytes_and_another_draw_does_not(options):
    pipeline = train_pipeline(crop_size=(32, 48), ignore_label=IGNORE, **options)
    draw = Draw(0, (30, 20), (7, 3, 11))
    np.random.seed(0)  # noqa: NPY002 - global state must not matter
    first = pipeline(noise(), draw.generator())
    np.random.seed(1)  # noqa: NPY002
    second = pipeline(noise(), draw.generator())
    other = pipeline(noise(), Draw(0, (30, 20), (7, 4, 11)).generator())
    assert first.image.tobytes() == second.image.tobytes()
    assert first.label.tobytes() == second.label.tobytes()
    assert first.image.tobytes() != other.image.tobytes()


def test_image_and_label_stay_aligned_through_all_geometry():
    options = {**FULL, "blur": None, "rand_augment": None, "color_aug": 0}
    pipeline = train_pipeline(crop_size=(64, 64), ignore_label=IGNORE, **options)
    for seed in range(20):
        sample = pipeline(blocks(), np.random.default_rng(seed))
        assert sample.size == (64, 64) and aligned(sample).all()


def test_results_are_contiguous_bytes_of_the_crop_size():
    pipeline = train_pipeline(crop_size=(40, 24), ignore_label=IGNORE, **FULL)
    for seed in range(10):
        sample = pipeline(noise(), np.random.default_rng(seed))
        assert sample.image.shape == (40, 24, 3) and sample.label.shape == (40, 24)
        assert sample.image.dtype == sample.label.dtype == np.uint8
        assert sample.image.flags.c_contiguous and sample.label.flags.c_contiguous
        assert sample.rows.shape == (40,) and sample.rows.dtype == np.float32
        assert sample.label.max() < 6 or sample.label.max() == IGNORE
        assert sample.centroid is None


def test_the_pipeline_prints_itself():
    assert "RandomSizeAndCrop" in repr(train_pipeline(crop_size=(8, 8), ignore_label=IGNORE))
