# SPDX-License-Identifier: Apache-2.0
"""Colour jitter and blurs: they change grey levels only, never the label.

All functions take and return (H, W, 3) uint8 RGB and follow Pillow (jitter) and scikit-image
(blurs) to the grey level; results are truncated, not rounded, as published.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from transforms.sample import Draws, GeneratorDraws, Sample

_FLOOR = -0.4999  # turns OpenCV's rounding into the published truncation
_STRIP = 1 << 16  # pixels converted at a time
# From OpenCV's float HSV to bytes; the offset lifts whole numbers that came out just below.
_TO_BYTES = np.array([[255 / 360, 0, 0, 1e-4], [0, 255, 0, 1e-4], [0, 0, 1, 0]], np.float32)


def adjust_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Grey levels times `factor`."""
    return _blend_with(image, 0, factor)


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Distance of the grey levels from the image's mean luma times `factor`."""
    mean = cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0]
    return _blend_with(image, int(mean + 0.5), factor)


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Distance of each pixel from its own luma times `factor`."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(image, factor, grey, 1 - factor, _FLOOR))


def adjust_hue(image: np.ndarray, factor: float) -> np.ndarray:
    """Hue turned by int(255 * factor) steps of a circle of 256, wrapping (factor -1..1).

    Hue and saturation pass through eight bits on the way, as in the published procedure.
    """
    out, width = np.empty_like(image), image.shape[1]
    # One row of the same layout: NumPy adds whole rows at once, a single channel pixel by pixel.
    turn = np.tile(np.array([int(255 * factor) % 256, 0, 0], np.uint8), width)
    # In strips: memory for float copies of a whole image would be allocated every time.
    height = max(_STRIP // width, 1)
    for top in range(0, image.shape[0], height):
        strip = image[top : top + height].astype(np.float32)
        floats = cv2.cvtColor(strip, cv2.COLOR_RGB2HSV)  # 0..360, 0..1, 0..255
        # differs: of hues that are whole numbers Pillow rounds one in a hundred down by a step
        # (one pixel in a thousand, up to six grey levels); here they stay.
        hsv = cv2.transform(floats, _TO_BYTES).astype(np.uint8)
        hsv.reshape(-1, 3 * width)[...] += turn
        cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL, dst=out[top : top + height])
    return out


def _blend_with(image: np.ndarray, level: int, factor: float) -> np.ndarray:
    """`level + factor * (image - level)`, truncated and clipped."""
    # The second image only fills the signature: this is OpenCV's fastest affine map.
    return np.asarray(cv2.addWeighted(image, factor, image, 0, level * (1 - factor) + _FLOOR))


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, sigma in pixels, cut at four sigma, border pixels repeated."""
    radius = int(4 * sigma + 0.5)
    weights = cv2.getGaussianKernel(2 * radius + 1, sigma, cv2.CV_32F)
    return np.asarray(
        cv2.sepFilter2D(image, -1, weights, weights, delta=_FLOOR, borderType=cv2.BORDER_REPLICATE)
    )


def bilateral_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Edge-preserving blur, spatial sigma in pixels, colour sigma the image's deviation."""
    if image.min() == image.max():
        return image  # scikit-image would return it unscaled
    # OpenCV's filter measures colour distance in another norm; scikit-image loads slowly.
    from skimage.restoration import denoise_bilateral

    # differs: upstream mixes black from outside into the outermost pixels.
    blurred = denoise_bilateral(image, sigma_spatial=sigma, mode="edge", channel_axis=2)
    return np.asarray((blurred * 255).astype(np.uint8))


ADJUSTMENTS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "brightness": adjust_brightness,
    "contrast": adjust_contrast,
    "saturation": adjust_saturation,
    "hue": adjust_hue,
}


class ColorJitter:
    """Brightness, contrast, saturation and hue, each drawn independently, in random order.

    strength c in 0..1: the first three factors are uniform in 1-c..1+c, hue in -c..c.
    """

    def __init__(self, strength: float) -> None:
        if not 0 <= strength <= 1:
            raise ValueError(f"color_aug {strength:g} is outside 0..1")
        self.strength = strength

    def draw(self, draws: Draws) -> tuple[tuple[str, float], ...]:
        """(operation, factor) in the order of application."""
        names, steps = list(ADJUSTMENTS), []
        while names:
            name = names.pop(draws.randint(0, len(names) - 1))
            middle = 0.0 if name == "hue" else 1.0
            steps.append((name, draws.uniform(middle - self.strength, middle + self.strength)))
        return tuple(steps)

    def apply(self, sample: Sample, steps: tuple[tuple[str, float], ...]) -> Sample:
        """The sample after these operations."""
        image = sample.image
        for name, factor in steps:
            image = ADJUSTMENTS[name](image, factor)
        return replace(sample, image=image)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self.apply(sample, self.draw(GeneratorDraws(rng)))


class Blur:
    """A blur of random width: sigma in pixels, uniform in `sigmas`, always applied."""

    blur: Callable[[np.ndarray, float], np.ndarray]
    sigmas: tuple[float, float]

    def draw(self, draws: Draws) -> float:
        """The sigma in pixels."""
        return draws.uniform(*self.sigmas)

    def apply(self, sample: Sample, sigma: float) -> Sample:
        """The sample, blurred."""
        return replace(sample, image=type(self).blur(sample.image, sigma))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self.apply(sample, self.draw(GeneratorDraws(rng)))


class GaussianBlur(Blur):
    """Gaussian blur, sigma 0.15..1.30."""

    blur = staticmethod(gaussian_blur)
    sigmas = (0.15, 1.30)


class BilateralBlur(Blur):
    """Bilateral blur, spatial sigma 0.05..0.75."""

    blur = staticmethod(bilateral_blur)
    sigmas = (0.05, 0.75)
