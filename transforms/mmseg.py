# SPDX-License-Identifier: Apache-2.0
"""Geometry of the ADE20K line of recipes: resize into a box, crop of mixed classes, corner pad.

Images are resized by OpenCV's bilinear filter without antialiasing, labels and extra maps take its
nearest pixel, floor(i * old / new): all maps follow the same rule, so they stay aligned. A box is
(long, short) in pixels; an image fills it whichever way it is oriented.

Source: the segmentation pipelines that HRViT, SegFormer, HILA and UN-EPT were trained with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from transforms.normalize import MEAN
from transforms.resample import resample_rows, whole
from transforms.sample import EXTRA_PAD, PAD_ROW, Draws, GeneratorDraws, Sample

Box = tuple[int, int]

NUM_TESTS = 10  # crops that are tested before one is taken untested
_MEAN_COLOUR = tuple(round(255 * mean) for mean in MEAN)


def keep_ratio_size(size: tuple[int, ...], box: tuple[float, float]) -> tuple[int, int]:
    """(H, W) of an image of `size` as large as fits into `box` (long, short), sides kept."""
    factor = min(max(box) / max(size), min(box) / min(size))
    height, width = (max(int(side * factor + 0.5), 1) for side in size)
    return height, width


def aligned_size(size: tuple[int, ...], divisor: int) -> tuple[int, int]:
    """`size` with both sides raised to the next multiple of `divisor`."""
    height, width = (-(-side // divisor) * divisor for side in size)
    return height, width


def scaled_box(box: Box, ratio: float) -> Box:
    """The box of one ratio, both sides truncated to whole pixels."""
    return max(int(box[0] * ratio), 1), max(int(box[1] * ratio), 1)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """OpenCV bilinear, (H, W, 3) uint8 -> `size`; the image itself when it has that size."""
    if image.shape[:2] == size:
        return image
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR))


def resize_map(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """OpenCV nearest, (H, W) of any type -> `size`."""
    if values.shape == size:
        return values
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_NEAREST))


def check_box(box: Box, flag: str) -> None:
    """Raise ValueError, naming `flag`, for a box whose first side is not the longer one."""
    if not box[0] >= box[1] >= 1:
        raise ValueError(f"--{flag} {box[0]},{box[1]}: LONG,SHORT wanted, in pixels")


class RatioResize:
    """Random resize into the box `img_scale` times a ratio drawn from `ratio_range`.

    The box is absolute: with (2048, 512) and ratio 1 the short side becomes 512 pixels whatever
    it was, unless the long side would pass 2048 first.
    Raises ValueError for a box that is not (long, short), or a range that does not ascend.
    """

    def __init__(self, img_scale: Box, ratio_range: tuple[float, float] = (0.5, 2.0)) -> None:
        check_box(img_scale, "img_scale")
        low, high = ratio_range
        if not 0 < low <= high:
            raise ValueError(f"--ratio_range {low:g},{high:g}: LOW,HIGH above 0 wanted")
        self.img_scale, self.ratio_range = img_scale, ratio_range

    def draw(self, draws: Draws) -> Box:
        """The box of this image."""
        return scaled_box(self.img_scale, draws.uniform(*self.ratio_range))

    def apply(self, sample: Sample, box: Box) -> Sample:
        """The sample as large as fits into `box`."""
        size = keep_ratio_size(sample.size, box)
        label, centroid, old = sample.label, sample.centroid, sample.size
        if centroid is not None:
            centroid = centroid[0] * size[1] // old[1], centroid[1] * size[0] // old[0]
        assert sample.rows is not None
        return replace(
            sample,
            image=resize_image(sample.image, size),
            label=None if label is None else resize_map(label, size),
            extras={name: resize_map(values, size) for name, values in sample.extras.items()},
            rows=resample_rows(sample.rows, whole(*size)),
            centroid=centroid,
        )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self.apply(sample, self.draw(GeneratorDraws(rng)))


@dataclass(frozen=True, kw_only=True)
class Corner:
    """First row and column of a crop."""

    top: int
    left: int


class MixedCrop:
    """A random crop in which no class covers `cat_max_ratio` of the labelled pixels or more.

    A crop is accepted when it holds more than one class and the most frequent one stays below
    that share; after ten refused ones the next is taken untested. A side that is shorter than
    the crop stays as it is (`CornerPad` fills it up). With a centroid the crop contains it.
    cat_max_ratio 1 accepts every crop. Raises ValueError for an empty crop or a share outside
    0..1.
    """

    def __init__(
        self, crop_size: tuple[int, int], ignore_label: int, cat_max_ratio: float = 0.75
    ) -> None:
        if min(crop_size) < 1:
            raise ValueError(f"crop_size {crop_size[0]},{crop_size[1]} is empty")
        if not 0 < cat_max_ratio <= 1:
            raise ValueError(f"--cat_max_ratio {cat_max_ratio:g} is outside 0..1")
        self.crop_size, self.ignore_label = crop_size, ignore_label
        self.cat_max_ratio = cat_max_ratio

    def draw(self, sample: Sample, draws: Draws) -> Corner:
        """The corner of the crop. Draws in order, for every candidate: row, column."""
        corner = self._candidate(sample, draws)
        if sample.label is None or self.cat_max_ratio >= 1:
            return corner
        for _ in range(NUM_TESTS):
            if self._is_mixed(self._cut(sample.label, corner)):
                break
            corner = self._candidate(sample, draws)
        return corner

    def _candidate(self, sample: Sample, draws: Draws) -> Corner:
        x, y = (None, None) if sample.centroid is None else sample.centroid
        top = draws.randint(*_first_pixels(sample.size[0], self.crop_size[0], y))
        return Corner(
            top=top, left=draws.randint(*_first_pixels(sample.size[1], self.crop_size[1], x))
        )

    def _is_mixed(self, label: np.ndarray) -> bool:
        counts = cv2.calcHist([label], [0], None, [256], [0, 256]).ravel()
        counts[self.ignore_label] = 0
        most = counts.max()
        return bool((counts > 0).sum() > 1 and most / counts.sum() < self.cat_max_ratio)

    def _cut(self, values: np.ndarray, corner: Corner) -> np.ndarray:
        height, width = self.crop_size
        return values[corner.top : corner.top + height, corner.left : corner.left + width]

    def apply(self, sample: Sample, corner: Corner) -> Sample:
        """The sample under the crop; its centroid is no longer needed and is dropped."""
        assert sample.rows is not None
        label = sample.label
        return replace(
            sample,
            image=np.ascontiguousarray(self._cut(sample.image, corner)),
            label=None if label is None else np.ascontiguousarray(self._cut(label, corner)),
            extras={
                name: np.ascontiguousarray(self._cut(values, corner))
                for name, values in sample.extras.items()
            },
            rows=sample.rows[corner.top : corner.top + self.crop_size[0]],
            centroid=None,
        )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self.apply(sample, self.draw(sample, GeneratorDraws(rng)))


def _first_pixels(size: int, crop: int, centre: int | None) -> tuple[int, int]:
    """Smallest and largest first pixel of a crop, which shows `centre` if it is given."""
    margin = max(size - crop, 0)
    if centre is None:
        return 0, margin
    return min(max(centre - crop + 1, 0), margin), min(max(centre, 0), margin)


class CornerPad:
    """Fill up to `size` (H, W) below and on the right: ignored, and zero for the network.

    The padding is zero after normalisation, which no uint8 value gives exactly: it is filled with
    the mean colour, and `Sample.valid` says where the image ends.
    """

    def __init__(self, size: tuple[int, int], ignore_label: int) -> None:
        self.size, self.ignore_label = size, ignore_label

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        below, right = (max(self.size[axis] - sample.size[axis], 0) for axis in (0, 1))
        if not below and not right:
            return sample

        def padded(values: np.ndarray, *fill: int) -> np.ndarray:
            kind = cv2.BORDER_CONSTANT
            return np.asarray(cv2.copyMakeBorder(values, 0, below, 0, right, kind, value=fill))

        label = sample.label
        assert sample.rows is not None
        return replace(
            sample,
            image=padded(sample.image, *_MEAN_COLOUR),
            label=None if label is None else padded(label, self.ignore_label),
            extras={name: padded(values, EXTRA_PAD) for name, values in sample.extras.items()},
            rows=np.concatenate([sample.rows, np.full(below, PAD_ROW, np.float32)]),
            valid=sample.size,
        )


class FitImage:
    """Evaluation resize of the image alone: as large as fits into `box` (long, short).

    The label keeps the size of the file, and predictions are brought back to it
    (`Sample.output_size`). size_divisor: a second resize to the next multiple of it.
    Raises ValueError for a box that is not (long, short).
    """

    def __init__(self, box: Box, size_divisor: int = 1) -> None:
        check_box(box, "test_scale")
        self.box, self.size_divisor = box, size_divisor

    def resized(self, image: np.ndarray, ratio: float = 1.0) -> np.ndarray:
        """`image` (H, W, 3) uint8 fitted into the box `ratio` times as large."""
        image = resize_image(image, keep_ratio_size(image.shape[:2], scaled_box(self.box, ratio)))
        return resize_image(image, aligned_size(image.shape[:2], self.size_divisor))

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        image = self.resized(sample.image)
        assert sample.rows is not None
        return replace(
            sample,
            image=image,
            rows=resample_rows(sample.rows, whole(image.shape[0], image.shape[1])),
            output_size=sample.size,
            original=sample.image,
        )
