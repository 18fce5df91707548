# SPDX-License-Identifier: Apache-2.0
"""Transforms of image, label, centroid and row positions together: scale, crop, pad, flip."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image

from transforms.boundary import mirrored, turned
from transforms.resample import (
    Filter,
    Resample,
    Window,
    resample_image,
    resample_label,
    resample_rows,
    whole,
)
from transforms.sample import EXTRA_PAD, Draws, GeneratorDraws, Sample


def show(
    sample: Sample,
    window: Window,
    ignore_label: int,
    kernel: Filter = "bicubic",
    resample: Resample = "fast",
) -> Sample:
    """The part of the scaled sample under `window`; padding is black and `ignore_label`."""
    label = sample.label
    if label is not None:
        label = resample_label(label, window, ignore_label)
    assert sample.rows is not None
    return replace(
        sample,
        image=resample_image(sample.image, window, kernel, resample),
        label=label,
        extras={
            name: resample_label(values, window, EXTRA_PAD)
            for name, values in sample.extras.items()
        },
        rows=resample_rows(sample.rows, window),
        centroid=_moved(sample, window),
    )


def _moved(sample: Sample, window: Window) -> tuple[int, int] | None:
    """The centroid in pixels of the window, None once it is cut away."""
    if sample.centroid is None:
        return None
    height, width = sample.size
    x = int(sample.centroid[0] * window.scaled[1] / width) - window.left
    y = int(sample.centroid[1] * window.scaled[0] / height) - window.top
    return (x, y) if 0 <= x < window.width and 0 <= y < window.height else None


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """One axis of a crop: scaled size, crop size, pad on both sides, centroid on the scale."""

    size: int
    crop: int
    centre: int | None
    slide: bool

    def draw(self, draws: Draws) -> int:
        """First pixel of the crop on the scaled image, negative inside the padding."""
        if self.slide:
            return -draws.randint(0, self.crop - self.size)
        pad = (self.crop - self.size) // 2 + 1 if self.size < self.crop else 0
        last = self.size + 2 * pad - self.crop
        if self.centre is None:
            return draws.randint(0, last) - pad
        # As published: the padding before the image does not move the centroid.
        return min(max(draws.randint(self.centre - self.crop, self.centre), 0), last) - pad


@dataclass(frozen=True, kw_only=True)
class RandomScale:
    """A scale uniform in scale_min..scale_max, relative to the image as it is or at a given size.

    pre_size: pixels of the long edge, of the short one with pre_size_short, at scale 1.
    Raises ValueError for a range that is not positive and ascending.
    """

    scale_min: float = 0.5
    scale_max: float = 2.0
    pre_size: int | None = None
    pre_size_short: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.scale_min <= self.scale_max:
            low, high = self.scale_min, self.scale_max
            raise ValueError(f"scale_min {low:g} .. scale_max {high:g} is not a range")

    def draw(self, size: tuple[int, int], draws: Draws) -> float:
        """The factor of both sides of an image of `size` (H, W)."""
        scale = draws.uniform(self.scale_min, self.scale_max)
        if self.pre_size is None:
            return scale
        return scale * self.pre_size / (min(size) if self.pre_size_short else max(size))


@dataclass(frozen=True, kw_only=True)
class CropRules:
    """What happens if image and crop do not fit each other.

    An axis shorter than the crop is padded on both sides by half of what is missing plus one before
    the crop is drawn. slide_small: an image smaller than the crop on both axes slides freely inside
    it. no_pad: an image that is too small for the crop is enlarged until it fits. full_crop: the
    crop has the size of the incoming image.
    """

    full_crop: bool = False
    slide_small: bool = False
    no_pad: bool = False


PLAIN_SCALE, PLAIN_CROP = RandomScale(), CropRules()


class RandomSizeAndCrop:
    """Random scale, then a random crop of fixed size, in one resample.

    With a centroid the crop contains it (at least at its right or lower edge).
    Raises ValueError for an empty crop.
    """

    def __init__(
        self,
        crop_size: tuple[int, int],
        ignore_label: int,
        scale: RandomScale = PLAIN_SCALE,
        rules: CropRules = PLAIN_CROP,
        resample: Resample = "fast",
    ) -> None:
        if min(crop_size) < 1:
            raise ValueError(f"crop_size {crop_size[0]},{crop_size[1]} is empty")
        self.crop_size, self.ignore_label = crop_size, ignore_label
        self.scale, self.rules, self.resample = scale, rules, resample

    def draw(self, size: tuple[int, int], centroid: tuple[int, int] | None, draws: Draws) -> Window:
        """The window for an image of `size` (H, W). Draws in order: scale, x, y."""
        scale, rules = self.scale.draw(size, draws), self.rules
        crop = size if rules.full_crop else self.crop_size
        height, width = max(int(size[0] * scale), 1), max(int(size[1] * scale), 1)
        if rules.no_pad and (height < crop[0] or width < crop[1]):
            # Published as a smaller crop that is enlarged to the crop size: the same image.
            scale *= max(crop[0] / height, crop[1] / width)
            height = max(int(size[0] * scale), crop[0])
            width = max(int(size[1] * scale), crop[1])
        if (height, width) == crop:
            return whole(height, width)
        centre = (None, None) if centroid is None else [int(c * scale) for c in centroid]
        # differs: with slide_small and one short axis upstream fails or fills with class 0;
        # that axis is padded here as without the option.
        slide = rules.slide_small and height < crop[0] and width < crop[1]
        x_axis = _Axis(size=width, crop=crop[1], centre=centre[0], slide=slide)
        y_axis = _Axis(size=height, crop=crop[0], centre=centre[1], slide=slide)
        left = x_axis.draw(draws)
        return Window(
            scaled=(height, width),
            top=y_axis.draw(draws),
            left=left,
            height=crop[0],
            width=crop[1],
        )

    def apply(self, sample: Sample, window: Window) -> Sample:
        """The sample under `window`; its centroid is no longer needed and is dropped."""
        shown = show(sample, window, self.ignore_label, "bicubic", self.resample)
        return replace(shown, centroid=None)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self.apply(sample, self.draw(sample.size, sample.centroid, GeneratorDraws(rng)))


class HorizontalFlip:
    """Mirror left and right with a probability."""

    def __init__(self, probability: float = 0.5) -> None:
        self.probability = probability

    def draw(self, draws: Draws) -> bool:
        """Whether to mirror."""
        return draws.uniform(0, 1) < self.probability

    def apply(self, sample: Sample, flip: bool) -> Sample:
        """The mirrored sample; row positions stay, angles of boundaries turn."""
        if not flip:
            return sample
        label, centroid, extras = sample.label, sample.centroid, sample.extras
        return replace(
            sample,
            image=np.asarray(cv2.flip(sample.image, 1)),
            label=None if label is None else np.asarray(cv2.flip(label, 1)),
            extras={
                name: mirrored(name, np.asarray(cv2.flip(values, 1)))
                for name, values in extras.items()
            },
            centroid=None if centroid is None else (sample.size[1] - 1 - centroid[0], centroid[1]),
        )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self.apply(sample, self.draw(GeneratorDraws(rng)))


class RandomRotate:
    """Turn by an angle uniform in -degrees..degrees about the centre; image bicubic.

    Corners without image are black and `ignore_label`.
    # differs: row positions stay those of the upright image, which hold at its centre; the
    # published ones are those of its first column.
    """

    def __init__(self, degrees: float, ignore_label: int) -> None:
        self.degrees, self.ignore_label = degrees, ignore_label

    def draw(self, draws: Draws) -> float:
        """The angle in degrees, counter-clockwise."""
        return draws.uniform(-self.degrees, self.degrees)

    def apply(self, sample: Sample, angle: float) -> Sample:
        """The turned sample, with the angles of boundaries; its centroid is dropped."""

        def turned_map(values: np.ndarray, fill: int) -> np.ndarray:
            return np.array(Image.fromarray(values).rotate(angle, fillcolor=fill))

        image = Image.fromarray(sample.image).rotate(angle, Image.Resampling.BICUBIC)
        return replace(
            sample,
            image=np.array(image),
            label=None if sample.label is None else turned_map(sample.label, self.ignore_label),
            extras={
                name: turned_map(turned(name, values, angle), EXTRA_PAD)
                for name, values in sample.extras.items()
            },
            centroid=None,
        )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self.apply(sample, self.draw(GeneratorDraws(rng)))


class Enlarge:
    """Validation resize: both sides times `factor`, image bicubic, label nearest."""

    def __init__(self, factor: float, resample: Resample = "fast") -> None:
        self.factor, self.resample = factor, resample

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        height, width = sample.size
        window = whole(int(height * self.factor), int(width * self.factor))
        return show(sample, window, 0, "bicubic", self.resample)


class ScaleLongEdge:
    """Validation resize: long edge to `size` pixels, image bilinear, label nearest."""

    def __init__(self, size: int, resample: Resample = "fast") -> None:
        self.size, self.resample = size, resample

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        height, width = sample.size
        long = max(height, width)
        window = whole(max(height * self.size // long, 1), max(width * self.size // long, 1))
        return show(sample, window, 0, "bilinear", self.resample)


class ResizeHeight:
    """Validation resize: height to `height` pixels, image bicubic, label nearest."""

    def __init__(self, height: int, resample: Resample = "fast") -> None:
        self.height, self.resample = height, resample

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        height, width = sample.size
        window = whole(self.height, max(width * self.height // height, 1))
        return show(sample, window, 0, "bicubic", self.resample)


class CenterCropPad:
    """Validation square: the centre of the image, padded where it is smaller.

    # differs: published code pads an axis by all that is missing on both sides, then places the
    # crop by the unpadded size, and shows a short axis late.
    """

    def __init__(self, size: int, ignore_label: int) -> None:
        self.size, self.ignore_label = size, ignore_label

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        top, left = (round((side - self.size) / 2) for side in sample.size)
        window = Window(scaled=sample.size, top=top, left=left, height=self.size, width=self.size)
        return show(sample, window, self.ignore_label)
