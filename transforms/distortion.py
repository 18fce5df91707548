# SPDX-License-Identifier: Apache-2.0
"""Photometric distortion of the ADE20K line of recipes: brightness, contrast, saturation, hue.

Every step happens with probability 1/2. Its arithmetic is float32, clipped to 0..255 and truncated
to uint8, hence a table of 256 values; saturation and hue each pass through OpenCV's eight-bit HSV
(hue 0..179) and back. Contrast comes either before or after the steps in HSV, as a fair coin
decides.

Source: Liu et al., "SSD", ECCV 2016, as the segmentation recipes use it (no channel shuffle).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from transforms.sample import Draws, GeneratorDraws, Sample

BRIGHTNESS = (-32.0, 32.0)  # grey levels added
FACTOR = (0.5, 1.5)  # of contrast and of saturation
HUE = (-18, 17)  # steps of two degrees, both ends included

_LEVELS = np.arange(256, dtype=np.float32)
_HUES = 180


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """What was drawn; None for a step that is skipped."""

    brightness: float | None = None
    contrast_first: bool = False
    contrast: float | None = None
    saturation: float | None = None
    hue: int | None = None


def _table(factor: float, offset: float) -> np.ndarray:
    """Every grey level times `factor` plus `offset`, (256,) uint8."""
    values = _LEVELS * np.float32(factor) + np.float32(offset)
    return np.clip(values, 0, 255).astype(np.uint8)


def _in_hsv(image: np.ndarray, channel: int, table: np.ndarray) -> np.ndarray:
    """`table` applied to hue (channel 0) or saturation (1), (H, W, 3) uint8 RGB."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    tables = np.stack([np.arange(256, dtype=np.uint8)] * 3, axis=1)
    tables[:, channel] = table
    cv2.LUT(hsv, tables[:, None], dst=hsv)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def distort(image: np.ndarray, drawn: Distortion) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> the same after all steps of `drawn`."""
    contrast = None if drawn.contrast is None else _table(drawn.contrast, 0)
    grey = None if drawn.brightness is None else _table(1, drawn.brightness)
    if drawn.contrast_first and contrast is not None:
        grey = contrast if grey is None else contrast[grey]
    if grey is not None:
        image = np.asarray(cv2.LUT(image, grey))
    if drawn.saturation is not None:
        image = _in_hsv(image, 1, _table(drawn.saturation, 0))
    if drawn.hue is not None:
        turned = (np.arange(256) + drawn.hue) % _HUES
        image = _in_hsv(image, 0, turned.astype(np.uint8))
    if not drawn.contrast_first and contrast is not None:
        image = np.asarray(cv2.LUT(image, contrast))
    return image


class PhotometricDistortion:
    """Random brightness, contrast, saturation and hue; the label is not touched."""

    def draw(self, draws: Draws) -> Distortion:
        """One coin per step, followed at once by its value; the coin for the place of contrast
        comes after brightness."""
        brightness = self._maybe(draws, BRIGHTNESS)
        contrast_first = draws.randint(0, 1) == 1
        contrast = self._maybe(draws, FACTOR) if contrast_first else None
        saturation = self._maybe(draws, FACTOR)
        hue = draws.randint(*HUE) if draws.randint(0, 1) else None
        if not contrast_first:
            contrast = self._maybe(draws, FACTOR)
        return Distortion(
            brightness=brightness,
            contrast_first=contrast_first,
            contrast=contrast,
            saturation=saturation,
            hue=hue,
        )

    def _maybe(self, draws: Draws, limits: tuple[float, float]) -> float | None:
        return draws.uniform(*limits) if draws.randint(0, 1) else None

    def apply(self, sample: Sample, drawn: Distortion) -> Sample:
        """The sample with its image distorted."""
        return replace(sample, image=distort(sample.image, drawn))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self.apply(sample, self.draw(GeneratorDraws(rng)))
