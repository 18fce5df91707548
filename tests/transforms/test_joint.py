# SPDX-License-Identifier: Apache-2.0
"""Image, label, centroid and rows stay together through scale, crop, pad and flip."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from tests.parity.published import OffCentreCropPad
from tests.transforms.drawings import IGNORE, aligned, blocks, ramp
from transforms.joint import (
    CenterCropPad,
    CropRules,
    Enlarge,
    HorizontalFlip,
    RandomRotate,
    RandomScale,
    RandomSizeAndCrop,
    ResizeHeight,
    ScaleLongEdge,
)
from transforms.sample import PAD_ROW, row_positions


class Fixed:
    """Draws that always give the lowest or the highest value."""

    def __init__(self, high: bool, scale: float = 1.0) -> None:
        self.high, self.scale = high, scale

    def uniform(self, a: float, b: float) -> float:
        return self.scale

    def randint(self, a: int, b: int) -> int:
        return b if self.high else a


@pytest.mark.parametrize("crop", [(48, 64), (100, 140), (40, 140), (100, 60)])
@pytest.mark.parametrize(
    "options",
    [{}, {"rules": CropRules(slide_small=True)}, {"scale": RandomScale(pre_size=80)}],
)
def test_label_and_image_stay_aligned(crop, options):
    transform = RandomSizeAndCrop(crop, IGNORE, **options)
    for seed in range(12):
        sample = transform(blocks(), np.random.default_rng(seed))
        assert sample.size == crop and sample.label.shape == crop
        assert aligned(sample).all()


def test_extra_maps_follow_the_label_through_scale_crop_and_padding():
    for seed in range(10):
        sample = blocks()
        sample.extras["floats"] = sample.label.astype(np.float32)
        out = RandomSizeAndCrop((80, 80), IGNORE)(sample, np.random.default_rng(seed))
        assert np.array_equal(out.extras["floats"], out.label)


@pytest.mark.parametrize("slide_small", [False, True])
def test_padding_is_ignored_and_everything_else_is_not(slide_small):
    transform = RandomSizeAndCrop((100, 64), IGNORE, rules=CropRules(slide_small=slide_small))
    for seed in range(20):
        sample = transform(ramp(), np.random.default_rng(seed))
        is_picture = sample.image[..., 2] > 0
        assert (sample.label[is_picture] == 1).all()
        assert (sample.label[~is_picture] == IGNORE).all()
        assert ((sample.rows == PAD_ROW) == ~is_picture.any(1)).all()


@pytest.mark.parametrize("high", [False, True])
def test_a_crop_inside_the_image_never_pads(high):
    transform = RandomSizeAndCrop((48, 64), IGNORE)
    for scale in (1.0, 1.37, 2.0):
        for centroid in (None, (0, 0), (89, 59), (45, 30)):
            window = transform.draw((60, 90), centroid, Fixed(high, scale))
            assert 0 <= window.top <= window.scaled[0] - 48
            assert 0 <= window.left <= window.scaled[1] - 64


@pytest.mark.parametrize("size", [(60, 90), (30, 40), (60, 40)])
def test_the_crop_contains_its_centroid_or_ends_at_it(size):
    transform = RandomSizeAndCrop((48, 64), IGNORE)
    for seed in range(200):
        rng = random.Random(seed)
        centroid = rng.randrange(size[1]), rng.randrange(size[0])
        window = transform.draw(size, centroid, rng)
        x = int(centroid[0] * window.scaled[1] / size[1] + 1e-9)
        y = int(centroid[1] * window.scaled[0] / size[0] + 1e-9)
        assert window.left - 1 <= x <= window.left + 64
        assert window.top - 1 <= y <= window.top + 48


def test_a_small_image_is_padded_on_both_sides_by_half_the_missing_plus_one():
    transform = RandomSizeAndCrop((96, 96), IGNORE)
    low, high = (transform.draw((33, 50), None, Fixed(h)) for h in (False, True))
    assert (low.top, low.left) == (-(63 // 2 + 1), -(46 // 2 + 1))
    assert (high.top, high.left) == (low.top + 33 + 64 - 96, low.left + 50 + 48 - 96)


class Recorded(Fixed):
    """`Fixed` that notes the ranges it was asked for."""

    def __init__(self, high, scale=1.0):
        super().__init__(high, scale)
        self.ranges = []

    def randint(self, a, b):
        self.ranges.append((a, b))
        return super().randint(a, b)


def test_padding_does_not_move_the_centroid():
    """Cases by hand: (x range, y range) of the draws, and where the crop then begins."""
    transform = RandomSizeAndCrop((96, 64), IGNORE)
    # 33 high: padded by 63 // 2 + 1 = 32 to 97, the crop begins at row 0 or 1 of these
    low, high = Recorded(False), Recorded(True)
    first, last = (transform.draw((33, 90), (70, 10), draws) for draws in (low, high))
    assert low.ranges == [(70 - 64, 70), (10 - 96, 10)]
    assert (first.left, first.top) == (6, 0 - 32)
    assert (last.left, last.top) == (26, 1 - 32)
    centre_low = transform.draw((33, 90), (70, 0), Recorded(True))
    assert centre_low.top == 0 - 32  # row 0 is the last one that may begin a crop


def test_slide_small_reaches_every_place_inside_the_crop():
    transform = RandomSizeAndCrop((96, 96), IGNORE, rules=CropRules(slide_small=True))
    low, high = (transform.draw((33, 50), None, Fixed(h)) for h in (False, True))
    assert (low.top, low.left) == (0, 0)
    assert (high.top, high.left) == (-63, -46)


def test_slide_small_pads_a_single_short_axis():
    transform = RandomSizeAndCrop((96, 40), IGNORE, rules=CropRules(slide_small=True))
    window = transform.draw((33, 50), None, Fixed(False))
    assert (window.top, window.left) == (-32, 0)


def test_full_crop_gives_the_size_of_the_image():
    transform = RandomSizeAndCrop((8, 8), IGNORE, rules=CropRules(full_crop=True))
    for seed in range(8):
        assert transform(ramp(70, 50), np.random.default_rng(seed)).size == (70, 50)


def test_pre_size_scales_the_long_edge_first():
    transform = RandomSizeAndCrop((8, 8), IGNORE, RandomScale(pre_size=180))
    assert transform.draw((60, 90), None, Fixed(False, 0.5)).scaled == (60, 90)


def test_rows_say_where_in_the_source_the_crop_lies():
    transform = RandomSizeAndCrop((48, 64), IGNORE)
    for seed in range(10):
        sample = transform(ramp(), np.random.default_rng(seed))
        inside = sample.rows != PAD_ROW
        green = sample.image[inside][:, sample.image.any((0, 2)).argmax() + 3, 1]
        assert np.abs(green / 255 - (20 + 230 * sample.rows[inside]) / 255).max() < 0.03


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop_size": (0, 8)}, "crop_size 0,8"),
        ({"scale_min": 0.0}, "scale_min 0"),
        ({"scale_min": 2.0, "scale_max": 1.0}, "scale_min 2 .. scale_max 1"),
    ],
)
def test_a_useless_crop_or_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        scale = {key: value for key, value in arguments.items() if key != "crop_size"}
        RandomSizeAndCrop(arguments.get("crop_size", (8, 8)), IGNORE, RandomScale(**scale))


def test_flip_mirrors_image_label_and_centroid_and_keeps_rows():
    sample = replace(blocks(), centroid=(10, 20))
    flipped = HorizontalFlip().apply(sample, True)
    assert np.array_equal(flipped.image, sample.image[:, ::-1])
    assert np.array_equal(flipped.label, sample.label[:, ::-1])
    assert flipped.centroid == (85, 20)
    assert np.array_equal(flipped.rows, sample.rows)
    assert HorizontalFlip().apply(sample, False) is sample


def test_flip_happens_about_as_often_as_asked():
    flips = [HorizontalFlip(0.25).draw(random.Random(seed)) for seed in range(400)]
    assert 0.18 < np.mean(flips) < 0.32


def test_samples_without_label_pass():
    sample = replace(ramp(), label=None)
    rng = np.random.default_rng(0)
    for transform in (
        RandomSizeAndCrop((48, 64), IGNORE),
        HorizontalFlip(1.0),
        ScaleLongEdge(50),
        CenterCropPad(70, IGNORE),
        OffCentreCropPad(70, IGNORE),
    ):
        assert transform(sample, rng).label is None


@pytest.mark.parametrize(("size", "want"), [((60, 90), (50, 75)), ((90, 60), (75, 50))])
def test_scale_long_edge_keeps_the_aspect(size, want):
    sample = ScaleLongEdge(75)(ramp(*size))
    assert sample.size == sample.label.shape == want
    assert sample.source_size == size
    assert sample.rows == pytest.approx(row_positions(want[0]), abs=1e-6)


def test_resize_height_keeps_the_aspect():
    assert ResizeHeight(50)(ramp()).size == (50, 75)


@pytest.mark.parametrize("size", [(40, 90), (90, 40), (40, 30), (90, 100)])
def test_center_crop_pad_centres_and_marks_padding(size):
    sample = CenterCropPad(60, IGNORE)(ramp(*size))
    is_picture = sample.image[..., 2] > 0
    assert sample.size == (60, 60)
    assert (sample.label == np.where(is_picture, 1, IGNORE)).all()
    for axis in (0, 1):
        shown = np.flatnonzero(is_picture.any(1 - axis))
        assert len(shown) == min(size[axis], 60)
        assert abs(shown[0] - (59 - shown[-1])) <= 1


def test_the_published_square_is_off_centre_with_a_strip_of_class_0():
    sample = OffCentreCropPad(80, IGNORE)(ramp())
    assert (sample.label[:10] == 0).all()
    assert (sample.label[10:30] == IGNORE).all()
    assert (sample.label[30:] == 1).all()


def test_no_pad_enlarges_small_images_until_the_crop_fits():
    scale, rules = RandomScale(scale_min=0.5, scale_max=1.0), CropRules(no_pad=True)
    for crop in ((100, 100), (80, 150)):
        transform = RandomSizeAndCrop(crop, IGNORE, scale, rules)
        for seed in range(8):
            sample = transform(blocks(), np.random.default_rng(seed))
            assert sample.size == crop
            assert (sample.label != IGNORE).all() and (sample.rows != PAD_ROW).all()
            assert aligned(sample).mean() > 0.8


def test_pre_size_counts_the_short_edge_when_asked():
    options = {"pre_size": 128, "scale_min": 1.0, "scale_max": 1.0}
    long = RandomSizeAndCrop((32, 32), IGNORE, RandomScale(**options))
    window = long.draw((64, 96), None, Fixed(False))
    assert window.scaled == (85, 128)
    short = RandomSizeAndCrop((32, 32), IGNORE, RandomScale(pre_size_short=True, **options))
    assert short.draw((64, 96), None, Fixed(False)).scaled == (128, 192)


def test_rotation_moves_image_and_label_together_and_ignores_the_corners():
    sample = blocks()
    turned = RandomRotate(30, IGNORE).apply(sample, 30.0)
    assert turned.size == sample.size
    assert turned.label[0, 0] == IGNORE and (turned.image[0, 0] == 0).all()
    inside = turned.label != IGNORE
    assert aligned(turned)[inside].mean() > 0.9
    assert np.array_equal(turned.rows, sample.rows)
    same = RandomRotate(30, IGNORE).apply(sample, 0.0)
    assert np.array_equal(same.image, sample.image) and np.array_equal(same.label, sample.label)


def test_enlarging_doubles_everything():
    sample = Enlarge(2)(blocks())
    assert sample.size == sample.label.shape == (128, 192)
    assert len(sample.rows) == 128 and aligned(sample).mean() > 0.8
