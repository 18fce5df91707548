# SPDX-License-Identifier: Apache-2.0
"""RandAugment with N random operations of magnitude M; geometric ones move the label too.

Source: "RandAugment: Practical automated data augmentation with a reduced search space"
(arXiv 1909.13719), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from transforms.boundary import regraded
from transforms.sample import EXTRA_PAD, PAD_ROW, Draws, GeneratorDraws, Sample

Matrix = tuple[float, float, float, float, float, float]  # output (x, y, 1) -> source x, y

MAX_MAGNITUDE = 30

RANGES: dict[str, tuple[float, float]] = {  # value at magnitude 0 and 30
    "Identity": (0.0, 1.0),
    "ShearX": (0.0, 0.3),
    "ShearY": (0.0, 0.3),
    "TranslateX": (0.0, 0.33),  # fraction of the width
    "TranslateY": (0.0, 0.33),  # fraction of the height
    "Rotate": (0.0, 30.0),  # degrees, anticlockwise
    "AutoContrast": (0.0, 1.0),
    "Invert": (0.0, 1.0),
    "Equalize": (0.0, 1.0),
    "Solarize": (0.0, 110.0),  # grey level from which on the image is inverted
    "Posterize": (4.0, 8.0),  # bits that remain
    "Color": (0.1, 1.9),
    "Brightness": (0.1, 1.9),
    "Sharpness": (0.1, 1.9),
}
GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")

_PIXELWISE: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "Identity": lambda image, value: image,
    "AutoContrast": lambda image, value: ImageOps.autocontrast(image),
    "Invert": lambda image, value: ImageOps.invert(image),
    "Equalize": lambda image, value: ImageOps.equalize(image),
    "Solarize": lambda image, value: ImageOps.solarize(image, math.ceil(value)),
    "Posterize": lambda image, value: ImageOps.posterize(image, int(value)),
    "Color": lambda image, value: ImageEnhance.Color(image).enhance(value),
    "Brightness": lambda image, value: ImageEnhance.Brightness(image).enhance(value),
    "Sharpness": lambda image, value: ImageEnhance.Sharpness(image).enhance(value),
}


@dataclass(frozen=True)
class Operation:
    """One drawn operation: its name and signed value in the unit of `RANGES`."""

    name: str
    value: float


def magnitude_value(name: str, magnitude: float) -> float:
    """Value of an operation at `magnitude` (0..30), without its sign."""
    low, high = RANGES[name]
    return magnitude / MAX_MAGNITUDE * (high - low) + low


def signed(name: str, magnitude: float, draws: Draws) -> Operation:
    """The operation at `magnitude`; geometric ones draw their sign."""
    value = magnitude_value(name, magnitude)
    if name in GEOMETRIC and draws.uniform(0, 1) > 0.5:
        value = -value
    return Operation(name, value)


def matrix(operation: Operation, width: int, height: int) -> Matrix:
    """The affine map of a geometric operation from output to source pixels."""
    value = operation.value
    if operation.name == "Rotate":
        cos, sin = math.cos(math.radians(value)), math.sin(math.radians(value))
        x, y = width / 2, height / 2
        return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y
    return {
        "ShearX": (1.0, value, 0.0, 0.0, 1.0, 0.0),
        "ShearY": (1.0, 0.0, 0.0, value, 1.0, 0.0),
        "TranslateX": (1.0, 0.0, value * width, 0.0, 1.0, 0.0),
        "TranslateY": (1.0, 0.0, 0.0, 0.0, 1.0, value * height),
    }[operation.name]


def apply_operation(sample: Sample, operation: Operation, ignore_label: int) -> Sample:
    """The sample after one operation; uncovered pixels are black and `ignore_label`."""
    image = Image.fromarray(sample.image)
    if operation.name not in GEOMETRIC:
        return replace(sample, image=np.array(_PIXELWISE[operation.name](image, operation.value)))
    size = image.size
    affine = matrix(operation, *size)
    # Published: everything bilinear but the rotation, which takes the nearest pixel.
    smooth = operation.name != "Rotate"
    kernel = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    moved = image.transform(size, Image.Transform.AFFINE, affine, resample=kernel)

    def moved_map(values: np.ndarray, fill: int) -> np.ndarray:
        kind = Image.Transform.AFFINE
        return np.array(Image.fromarray(values).transform(size, kind, affine, fillcolor=fill))

    assert sample.rows is not None
    return replace(
        sample,
        image=np.array(moved),
        label=None if sample.label is None else moved_map(sample.label, ignore_label),
        extras={
            name: moved_map(regraded(name, values, (affine[:2], affine[3:5])), EXTRA_PAD)
            for name, values in sample.extras.items()
        },
        rows=_moved_rows(sample.rows, affine, size[0]),
    )


def _moved_rows(rows: np.ndarray, affine: Matrix, width: int) -> np.ndarray:
    """Row positions after an affine map, read along the middle column."""
    centres = np.arange(len(rows)) + 0.5
    source = np.floor(affine[3] * width / 2 + affine[4] * centres + affine[5]).astype(int)
    inside = (source >= 0) & (source < len(rows))
    return np.where(inside, rows[source.clip(0, len(rows) - 1)], np.float32(PAD_ROW))


class RandAugment:
    """N operations drawn with replacement, all at magnitude M.

    Raises ValueError for a negative N or an M outside 0..30.
    """

    # differs: uncovered label pixels get the data set's own ignore label, upstream always 255.
    def __init__(self, count: int, magnitude: float, ignore_label: int) -> None:
        if count < 0 or not 0 <= magnitude <= MAX_MAGNITUDE:
            raise ValueError(
                f"rand_augment {count},{magnitude:g}: N is at least 0 and M in 0..{MAX_MAGNITUDE}"
            )
        self.count, self.magnitude, self.ignore_label = count, magnitude, ignore_label

    def draw(self, draws: Draws) -> tuple[Operation, ...]:
        """The operations: first all names, then the signs of the geometric ones."""
        names = list(RANGES)
        chosen = [names[draws.randint(0, len(names) - 1)] for _ in range(self.count)]
        return tuple(signed(name, self.magnitude, draws) for name in chosen)

    def apply(self, sample: Sample, operations: tuple[Operation, ...]) -> Sample:
        """The sample after all operations."""
        for operation in operations:
            sample = apply_operation(sample, operation, self.ignore_label)
        return replace(sample, centroid=None)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self.apply(sample, self.draw(GeneratorDraws(rng)))
