# SPDX-License-Identifier: Apache-2.0
"""Colour jitter and blurs against Pillow and scikit-image, and what they leave alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from skimage.filters import gaussian

from tests.parity.published import dark_bilateral_blur
from tests.transforms.drawings import noise, ramp
from transforms.photometric import (
    ADJUSTMENTS,
    BilateralBlur,
    ColorJitter,
    GaussianBlur,
    adjust_hue,
    gaussian_blur,
)

ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}
HUES = (-1.0, -0.2, 0.0, 0.1, 0.25, 1.0)


@pytest.mark.parametrize("name", ENHANCERS)
@pytest.mark.parametrize("factor", [0.0, 0.75, 0.9, 1.0, 1.25, 2.0])
def test_adjustments_are_pillows_to_the_grey_level(name, factor):
    image = noise().image
    want = np.asarray(ENHANCERS[name](Image.fromarray(image)).enhance(factor)).astype(int)
    difference = np.abs(ADJUSTMENTS[name](image, factor) - want)
    assert difference.max() <= 1 and np.mean(difference) < 0.01


def pillow_hue(image: np.ndarray, factor: float) -> np.ndarray:
    hue, saturation, value = Image.fromarray(image).convert("HSV").split()
    shifted = Image.fromarray(np.asarray(hue) + np.uint8(int(factor * 255) % 256))
    return np.asarray(Image.merge("HSV", (shifted, saturation, value)).convert("RGB"))


@pytest.mark.parametrize("factor", HUES)
def test_hue_is_pillows_but_for_single_steps_in_few_pixels(factor):
    image = noise(300, 200).image
    difference = np.abs(adjust_hue(image, factor) - pillow_hue(image, factor).astype(int)).max(2)
    assert np.mean(difference > 0) < 0.003
    assert difference.max() <= 6


def test_hue_wraps_around():
    image = noise().image
    assert np.array_equal(adjust_hue(image, 0.5), adjust_hue(image, -129.5 / 255))


@pytest.mark.parametrize("sigma", [0.15, 0.3, 0.7, 1.3])
def test_gaussian_blur_is_scikit_images_to_the_grey_level(sigma):
    image = noise().image
    want = (gaussian(image, sigma=sigma, channel_axis=2) * 255).astype(int)
    assert np.abs(gaussian_blur(image, sigma) - want).max() <= 1


def test_gaussian_blur_leaves_flat_areas_alone():
    image = np.full((20, 30, 3), (0, 77, 255), np.uint8)
    for sigma in (0.2, 0.7, 1.3):
        assert np.array_equal(gaussian_blur(image, sigma), image)


def test_bilateral_blur_smooths_noise():
    rng = np.random.default_rng(0)
    image = np.full((24, 24, 3), 60, np.uint8)
    image[:, 20:] = 200
    noisy = (image + rng.integers(-3, 4, image.shape)).astype(np.uint8)
    blurred = BilateralBlur.blur(noisy, 0.75).astype(int)
    assert np.abs(blurred[:, :16] - 60).mean() < 0.7 * np.abs(noisy[:, :16].astype(int) - 60).mean()
    assert dark_bilateral_blur(noisy, 0.75)[0].mean() < blurred[0].mean() - 5


def test_bilateral_blur_leaves_a_image_of_one_grey_level_alone():
    for level in (0, 77, 255):
        image = np.full((8, 9, 3), level, np.uint8)
        assert np.array_equal(BilateralBlur.blur(image, 0.5), image)


@pytest.mark.parametrize("transform", [ColorJitter(0.25), GaussianBlur(), BilateralBlur()])
def test_only_the_image_changes(transform):
    sample = ramp()
    before = sample.image.copy()
    changed = transform(sample, np.random.default_rng(1))
    assert np.array_equal(sample.image, before)
    assert not np.array_equal(changed.image, before)
    assert changed.image.dtype == np.uint8 and changed.image.shape == before.shape
    assert changed.label is sample.label and changed.rows is sample.rows


def test_jitter_draws_all_four_in_every_order_within_its_range():
    orders = set()
    for seed in range(300):
        steps = ColorJitter(0.25).draw(random.Random(seed))
        orders.add(tuple(name for name, _ in steps))
        for name, factor in steps:
            assert abs(factor - (name != "hue")) <= 0.25
    assert len(orders) == 24


@pytest.mark.parametrize(
    ("blur", "low", "high"), [(GaussianBlur, 0.15, 1.3), (BilateralBlur, 0.05, 0.75)]
)
def test_blur_widths_fill_their_range(blur, low, high):
    sigmas = [blur().draw(random.Random(seed)) for seed in range(200)]
    assert low <= min(sigmas) < low + 0.1 and high - 0.1 < max(sigmas) <= high


def test_a_strength_outside_0_to_1_is_refused():
    with pytest.raises(ValueError, match=r"color_aug 1\.5"):
        ColorJitter(1.5)
