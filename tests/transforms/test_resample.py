# SPDX-License-Identifier: Apache-2.0
"""One resample into a window equals the whole resize and the cut."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.transforms.drawings import IGNORE, noise, ramp
from transforms.resample import Window, resample_image, resample_label, resample_rows, whole
from transforms.sample import PAD_ROW, row_positions

SIZES = [(30, 45), (51, 77), (59, 89), (60, 91), (61, 91), (83, 101), (97, 150), (120, 180)]


def smooth(height: int = 60, width: int = 90) -> np.ndarray:
    """An image with as much detail as a photograph: noise, blurred once."""
    image = Image.fromarray(noise(height // 2, width // 2).image)
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def draw_window(scaled: tuple[int, int], seed: int) -> Window:
    rng = np.random.default_rng(seed)
    height, width = (int(rng.integers(8, side + 1)) for side in scaled)
    top = int(rng.integers(0, scaled[0] - height + 1))
    left = int(rng.integers(0, scaled[1] - width + 1))
    return Window(scaled=scaled, top=top, left=left, height=height, width=width)


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
@pytest.mark.parametrize("scaled", SIZES)
def test_any_window_is_within_two_grey_levels_of_pillows_whole_resize(scaled, kernel):
    image = smooth()
    for seed in range(10):
        window = draw_window(scaled, seed)
        want = resample_image(image, window, kernel, "pillow").astype(int)
        difference = np.abs(resample_image(image, window, kernel, "fast") - want)
        assert difference.max() <= 2
        assert np.mean(difference > 1) < 1e-3


def test_a_window_of_a_large_image_reads_only_the_pixels_it_sees():
    image = smooth(400, 600)
    window = Window(scaled=(680, 1020), top=600, left=900, height=60, width=80)
    want = resample_image(image, window)
    image = image.copy()
    image[:200, :300] = 0
    assert np.array_equal(resample_image(image, window), want)


@pytest.mark.parametrize("scaled", SIZES)
def test_labels_take_the_pixel_that_pillow_takes(scaled):
    label = noise(60, 90).label
    resized = Image.fromarray(label).resize((scaled[1], scaled[0]), Image.Resampling.NEAREST)
    assert np.array_equal(resample_label(label, whole(*scaled), IGNORE), np.asarray(resized))
    window = draw_window(scaled, 3)
    cut = np.asarray(resized)[window.top :, window.left :][: window.height, : window.width]
    assert np.array_equal(resample_label(label, window, IGNORE), cut)


@pytest.mark.parametrize("engine", ["fast", "pillow"])
def test_padding_is_black_and_ignored_and_touches_no_image_pixel(engine):
    sample = ramp()
    window = Window(scaled=(60, 90), top=-7, left=-5, height=80, width=100)
    image = resample_image(sample.image, window, engine=engine)
    label = resample_label(sample.label, window, IGNORE)
    inside = np.zeros((80, 100), bool)
    inside[7:67, 5:95] = True
    assert np.array_equal(image[7:67, 5:95], sample.image)
    assert not image[~inside].any()
    assert (label[inside] == 1).all() and (label[~inside] == IGNORE).all()


def test_a_window_beside_the_image_is_all_padding():
    window = Window(scaled=(60, 90), top=60, left=0, height=8, width=9)
    assert not resample_image(ramp().image, window).any()
    assert (resample_label(ramp().label, window, IGNORE) == IGNORE).all()


def test_read_only_and_mirrored_images_are_taken():
    image = smooth()[:, ::-1]
    image.flags.writeable = False
    window = whole(50, 75)
    want = resample_image(np.ascontiguousarray(image), window)
    assert np.array_equal(resample_image(image, window), want)


@pytest.mark.parametrize("scaled", [30, 60, 61, 117])
def test_row_positions_are_the_centres_of_the_scaled_rows(scaled):
    rows = resample_rows(row_positions(60), whole(scaled, 90))
    assert rows == pytest.approx(row_positions(scaled), abs=1e-6)


def test_row_positions_follow_crop_and_padding():
    window = Window(scaled=(30, 45), top=-2, left=0, height=20, width=45)
    rows = resample_rows(row_positions(60), window)
    assert (rows[:2] == PAD_ROW).all()
    assert rows[2:] == pytest.approx(row_positions(30)[:18], abs=1e-6)
    again = resample_rows(rows, whole(40, 90))  # a padded image, resized
    assert (again[:4] == PAD_ROW).all() and (again[4:] > 0).all()
