# SPDX-License-Identifier: Apache-2.0
"""Resize into a box, crops of mixed classes, padding below and right, evaluation resize."""

from __future__ import annotations

import numpy as np
import pytest

from tests.transforms.drawings import IGNORE, NUM_CLASSES, aligned, blocks, noise, ramp
from transforms.joint import HorizontalFlip
from transforms.mmseg import (
    CornerPad,
    FitImage,
    MixedCrop,
    RatioResize,
    aligned_size,
    keep_ratio_size,
)
from transforms.normalize import MEAN, STD, to_tensor
from transforms.pipeline import eval_pipeline, mmseg_train_pipeline
from transforms.sample import EXTRA_PAD, PAD_ROW, GeneratorDraws, Sample, row_positions


def draws(seed: int = 0) -> GeneratorDraws:
    return GeneratorDraws(np.random.default_rng(seed))


def one_class(height: int, width: int) -> Sample:
    label = np.zeros((height, width), np.uint8)
    return Sample(np.zeros((height, width, 3), np.uint8), label, "flat")


@pytest.mark.parametrize(
    ("size", "box", "wanted"),
    [
        ((512, 683), (2048, 512), (512, 683)),
        ((683, 512), (2048, 512), (683, 512)),  # the box turns with the image
        ((300, 2000), (2048, 512), (307, 2048)),  # here the long side is the limit
        ((100, 100), (520, 520), (520, 520)),
        ((1, 9000), (90, 30), (1, 90)),  # no side vanishes
    ],
)
def test_the_image_fills_the_box(
    size: tuple[int, int], box: tuple[int, int], wanted: tuple[int, int]
) -> None:
    assert keep_ratio_size(size, box) == wanted


def test_aligned_sides_go_up_never_down() -> None:
    assert aligned_size((512, 683), 32) == (512, 704)
    assert aligned_size((33, 1), 32) == (64, 32)
    assert aligned_size((37, 41), 1) == (37, 41)


def test_the_box_is_absolute_and_its_ratio_in_range() -> None:
    resize = RatioResize((128, 32), (0.5, 2.0))
    boxes = [resize.draw(draws(seed)) for seed in range(40)]
    assert all(64 <= long < 256 and 16 <= short < 64 for long, short in boxes)
    assert resize.apply(noise(40, 56), (64, 20)).size == resize.apply(noise(80, 112), (64, 20)).size


def test_label_and_extra_maps_stay_on_the_image() -> None:
    sample = blocks()
    sample.extras["copy"] = sample.label.astype(np.float32)
    pipeline = mmseg_train_pipeline(
        crop_size=(48, 64), ignore_label=IGNORE, img_scale=(144, 72), cat_max_ratio=1
    )
    pipeline.transforms = tuple(
        step for step in pipeline.transforms if "Photo" not in type(step).__name__
    )
    for seed in range(15):
        out = pipeline(sample, np.random.default_rng(seed))
        shown = out.label != IGNORE
        picture = Sample(np.where(shown[..., None], out.image, 0), out.label, "shown")
        assert aligned(picture).all()
        assert np.array_equal(out.extras["copy"], np.where(shown, out.label, EXTRA_PAD))


def test_row_positions_follow_resize_crop_and_padding() -> None:
    sample = RatioResize((120, 120)).apply(ramp(60, 90), (120, 120))
    assert np.allclose(sample.rows, row_positions(80), atol=1e-6)
    crop = MixedCrop((32, 32), IGNORE, 1)
    corner = crop.draw(sample, draws())
    cut = crop.apply(sample, corner)
    assert np.array_equal(cut.rows, sample.rows[corner.top : corner.top + 32])
    padded = CornerPad((40, 32), IGNORE)(cut)
    assert np.array_equal(padded.rows[:32], cut.rows) and (padded.rows[32:] == PAD_ROW).all()


def test_a_crop_of_one_class_is_drawn_again_until_classes_mix() -> None:
    sample = one_class(64, 256)
    sample.label[:, 128:] = 1
    crop, limit = MixedCrop((64, 64), IGNORE), 0.75
    for seed in range(30):
        label = crop.apply(sample, crop.draw(sample, draws(seed))).label
        share = max(np.bincount(label.ravel())) / label.size
        untested = MixedCrop((64, 64), IGNORE, 1)
        first = untested.apply(sample, untested.draw(sample, draws(seed))).label
        assert share < limit or (first == first[0, 0]).all()
    plain = [untested.draw(sample, draws(seed)).left for seed in range(200)]
    mixed = [crop.draw(sample, draws(seed)).left for seed in range(200)]
    near = [np.mean([80 < left < 112 for left in lefts]) for lefts in (plain, mixed)]
    assert near[1] > 3 * near[0]


def test_ignored_pixels_do_not_count_in_the_share() -> None:
    sample = one_class(32, 32)
    sample.label[:30] = IGNORE
    sample.label[30:, :16] = 1
    calls = CountedDraws()
    MixedCrop((32, 32), IGNORE).draw(sample, calls)
    assert calls.count == 2
    sample.label[30:] = 1
    MixedCrop((32, 32), IGNORE).draw(sample, calls)
    assert calls.count == 2 + 22  # one class alone: ten tests, and the crop after them


class CountedDraws(GeneratorDraws):
    """Draws that are counted."""

    def __init__(self) -> None:
        super().__init__(np.random.default_rng(0))
        self.count = 0

    def randint(self, a: int, b: int) -> int:
        self.count += 1
        return super().randint(a, b)


@pytest.mark.parametrize("point", [(0, 0), (89, 59), (45, 2), (31, 31)])
def test_a_crop_contains_its_centroid(point: tuple[int, int]) -> None:
    sample = ramp(60, 90)
    sample.centroid = point
    crop = MixedCrop((32, 32), IGNORE, 1)
    for seed in range(30):
        corner = crop.draw(sample, draws(seed))
        assert 0 <= point[0] - corner.left < 32 and 0 <= point[1] - corner.top < 32
        assert crop.apply(sample, corner).centroid is None
    moved = RatioResize((180, 120)).apply(sample, (180, 120)).centroid
    assert moved == (point[0] * 2, point[1] * 2)


def test_padding_is_exactly_zero_for_the_network() -> None:
    padded = CornerPad((48, 70), IGNORE)(noise(40, 56))
    tensor = to_tensor(padded.image, padded.valid).numpy()
    assert (tensor[:, 40:] == 0).all() and (tensor[:, :, 56:] == 0).all()
    shown = (noise(40, 56).image - 255 * np.array(MEAN)) / (255 * np.array(STD))
    assert np.allclose(tensor[:, :40, :56], shown.transpose(2, 0, 1), atol=1e-5)
    assert (padded.label[40:] == IGNORE).all() and (padded.label[:40, :56] < NUM_CLASSES).all()
    assert np.abs(to_tensor(padded.image).numpy()[:, 40:]).max() < 0.01  # the mean colour to see


def test_a_full_crop_is_not_padded() -> None:
    sample = noise(40, 56)
    assert CornerPad((40, 56), IGNORE)(sample) is sample
    assert sample.valid is None


def test_evaluation_resizes_the_image_alone() -> None:
    sample = eval_pipeline(ignore_label=IGNORE, test_scale=(200, 50), size_divisor=32)(
        noise(40, 56), np.random.default_rng(0)
    )
    assert sample.size == (64, 96)  # 50 x 70, then up to multiples of 32
    assert sample.label.shape == sample.output_size == sample.source_size == (40, 56)
    assert np.allclose(sample.rows, row_positions(64), atol=1e-6)


def test_a_image_that_fits_is_handed_on_as_it_is() -> None:
    sample = noise(40, 56)
    assert FitImage((200, 40))(sample).image is sample.image


def test_mirror_takes_the_extra_maps_along() -> None:
    sample = noise()
    sample.extras["index"] = np.arange(40 * 56, dtype=np.float32).reshape(40, 56)
    flipped = HorizontalFlip().apply(sample, True)
    assert np.array_equal(flipped.extras["index"], sample.extras["index"][:, ::-1])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RatioResize((512, 2048)), "--img_scale 512,2048"),
        (lambda: RatioResize((64, 64), (2.0, 0.5)), "--ratio_range 2,0.5"),
        (lambda: MixedCrop((0, 4), IGNORE), "crop_size 0,4"),
        (lambda: MixedCrop((4, 4), IGNORE, 0), "--cat_max_ratio 0"),
        (lambda: FitImage((3, 4)), "--test_scale 3,4"),
        (
            lambda: eval_pipeline(ignore_label=IGNORE, pre_size=4, test_scale=(4, 4)),
            "exclude each other",
        ),
    ],
)
def test_impossible_settings_name_their_flag(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
