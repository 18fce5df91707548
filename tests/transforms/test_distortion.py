# SPDX-License-Identifier: Apache-2.0
"""Photometric distortion: places of the steps, truncation, and what is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from tests.transforms.drawings import noise
from transforms.distortion import Distortion, PhotometricDistortion, distort
from transforms.sample import GeneratorDraws


def grey(level: int) -> np.ndarray:
    return np.full((2, 3, 3), level, np.uint8)


def test_nothing_drawn_changes_nothing() -> None:
    image = noise().image
    assert distort(image, Distortion()) is image


@pytest.mark.parametrize(
    ("drawn", "level", "wanted"),
    [
        (Distortion(brightness=-31.5), 100, 68),  # 68.5, truncated
        (Distortion(brightness=32), 250, 255),
        (Distortion(contrast=0.75), 101, 75),
        (Distortion(contrast=1.5, contrast_first=True), 200, 255),
        (Distortion(brightness=10.9, contrast=0.5), 11, 10),  # 21.9 is 21 before it is halved
        (Distortion(saturation=1.5, hue=17), 90, 90),  # grey has neither
    ],
)
def test_steps_truncate_and_clip(drawn: Distortion, level: int, wanted: int) -> None:
    assert (distort(grey(level), drawn) == wanted).all()


def test_contrast_works_before_or_after_the_steps_in_hsv() -> None:
    image = noise().image
    before, after = (
        distort(image, Distortion(contrast_first=first, contrast=1.4, saturation=1.4))
        for first in (True, False)
    )
    assert not np.array_equal(before, after)


def test_hue_turns_by_two_degrees_a_step() -> None:
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    turned = distort(red, Distortion(hue=15))[0, 0]
    assert (turned == (255, 128, 0)).all() or (turned == (255, 127, 0)).all()
    back = distort(red, Distortion(hue=-15))[0, 0]
    assert back[0] == 255 and back[1] == 0 and 126 <= back[2] <= 129


def test_each_step_is_drawn_half_of_the_time_and_in_range() -> None:
    draws = GeneratorDraws(np.random.default_rng(0))
    drawn = [PhotometricDistortion().draw(draws) for _ in range(400)]
    limits = {"brightness": 32, "contrast": 1.5, "saturation": 1.5, "hue": 18}
    for name, limit in limits.items():
        values = [value for one in drawn if (value := getattr(one, name)) is not None]
        assert 150 < len(values) < 250
        assert max(map(abs, values)) <= limit
    hues = {one.hue for one in drawn if one.hue is not None}
    assert min(hues) == -18 and max(hues) == 17
    assert 150 < sum(one.contrast_first for one in drawn) < 250


def test_the_label_and_the_source_image_are_left_alone() -> None:
    sample = noise()
    before = sample.image.copy()
    out = PhotometricDistortion()(sample, np.random.default_rng(3))
    assert out.label is sample.label
    assert np.array_equal(sample.image, before)
