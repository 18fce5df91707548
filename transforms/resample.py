# SPDX-License-Identifier: Apache-2.0
"""One resampling from the source to a window of the scaled image; pixels cut away cost nothing.

Images follow Pillow's filters (cubic with a = -0.5, support widened when shrinking), labels take
the nearest pixel. Two engines: "fast" is torch's uint8 kernel, within a grey level of Pillow except
for a few pixels in a thousand next to saturated edges; "pillow" is Pillow itself and several times
slower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from transforms.sample import PAD_ROW

Resample = Literal["fast", "pillow"]
Filter = Literal["bicubic", "bilinear"]

_PILLOW = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_SUPPORT = {"bicubic": 2, "bilinear": 1}  # radius of the filter in source pixels, not shrinking
_PHASE = 1 / 512  # accepted shift of a window against the pixel grid, source pixels


@dataclass(frozen=True, kw_only=True)
class Window:
    """A rectangle on the scaled image; what lies outside the image is padding.

    scaled: (H, W) of the whole scaled image. top, left: corner on it, negative for padding.
    height, width: size of the result. All in pixels of the scaled image.
    """

    scaled: tuple[int, int]
    top: int
    left: int
    height: int
    width: int

    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the result that show the image; empty when none does."""
        return (
            _inside(self.top, self.height, self.scaled[0]),
            _inside(self.left, self.width, self.scaled[1]),
        )


def whole(height: int, width: int) -> Window:
    """The window that shows the whole scaled image."""
    return Window(scaled=(height, width), top=0, left=0, height=height, width=width)


def _inside(first: int, count: int, scaled: int) -> slice:
    start = min(max(-first, 0), count)
    return slice(start, max(start, min(count, scaled - first)))


def resample_image(
    image: np.ndarray, window: Window, kernel: Filter = "bicubic", engine: Resample = "fast"
) -> np.ndarray:
    """The window of the scaled image: (H, W, 3) uint8 -> (height, width, 3), padding black."""
    rows, cols = window.inside()
    shape = (rows.stop - rows.start, cols.stop - cols.start)
    origin = (window.top + rows.start, window.left + cols.start)
    if 0 in shape:
        return np.zeros((window.height, window.width, 3), np.uint8)
    if image.shape[:2] == window.scaled:
        part = image[origin[0] : origin[0] + shape[0], origin[1] : origin[1] + shape[1]]
    elif engine == "pillow":
        part = _pillow(image, window.scaled, origin, shape, kernel)
    else:
        part = _fast(image, window.scaled, origin, shape, kernel)
    return _padded(part, window, rows, cols, 0)


def resample_label(label: np.ndarray, window: Window, ignore_label: int) -> np.ndarray:
    """The window of the scaled label, nearest pixel: (H, W) -> (height, width), padded."""
    rows, cols = window.inside()
    picked = label[_nearest(label.shape[0], window.scaled[0], window.top, rows)]
    picked = _picked_columns(picked, _nearest(label.shape[1], window.scaled[1], window.left, cols))
    return _padded(picked, window, rows, cols, ignore_label)


def _picked_columns(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """`values[:, columns]`, a quarter of its time: NumPy copies whole rows of the transposed."""
    if 0 in (len(values), len(columns)):
        return values[:, columns]
    return np.asarray(cv2.transpose(cv2.transpose(values)[columns]))


def resample_rows(rows: np.ndarray, window: Window) -> np.ndarray:
    """Row positions of the window: (H,) -> (height,), `PAD_ROW` in the padding."""
    inside, _ = window.inside()
    out = np.full(window.height, PAD_ROW, np.float32)
    size, scaled = len(rows), window.scaled[0]
    if size == 1 or (rows == PAD_ROW).any():
        out[inside] = rows[_nearest(size, scaled, window.top, inside)]
        return out
    centres = (np.arange(inside.start, inside.stop) + window.top + 0.5) * (size / scaled) - 0.5
    slope = (float(rows[-1]) - float(rows[0])) / (size - 1)  # rows of an image are equidistant
    out[inside] = float(rows[0]) + slope * centres
    return out


def _nearest(size: int, scaled: int, first: int, inside: slice) -> np.ndarray:
    """Source index under the centre of each scaled pixel."""
    # Pillow adds up the step, and its rounding decides ties between two pixels, so we do the same.
    steps = np.full(inside.stop + first, size / scaled)
    steps[:1] *= 0.5
    return np.minimum(np.cumsum(steps)[inside.start + first :].astype(np.intp), size - 1)


def _padded(part: np.ndarray, window: Window, rows: slice, cols: slice, fill: int) -> np.ndarray:
    """`part` in place inside a result filled with `fill`; a fresh array without padding."""
    if part.shape[:2] == (window.height, window.width):
        return np.ascontiguousarray(part)
    top, left = rows.start, cols.start
    bottom, right = window.height - rows.stop, window.width - cols.stop
    border = (fill, fill, fill, fill)
    return np.asarray(
        cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_CONSTANT, value=border)
    )


def _pillow(
    image: np.ndarray,
    scaled: tuple[int, int],
    origin: tuple[int, int],
    shape: tuple[int, int],
    kernel: Filter,
) -> np.ndarray:
    """Pillow's own resize of the whole image, then the cut: the published procedure."""
    whole_image = Image.fromarray(image).resize((scaled[1], scaled[0]), _PILLOW[kernel])
    box = (origin[1], origin[0], origin[1] + shape[1], origin[0] + shape[0])
    return np.array(whole_image.crop(box))


def _fast(
    image: np.ndarray,
    scaled: tuple[int, int],
    origin: tuple[int, int],
    shape: tuple[int, int],
    kernel: Filter,
) -> np.ndarray:
    """Resize only the source pixels that the window sees."""
    spans = [
        _span(image.shape[axis], scaled[axis], origin[axis], shape[axis], _SUPPORT[kernel])
        for axis in (0, 1)
    ]
    (top, bottom, row), (left, right, col) = spans
    source = image[top:bottom, left:right]
    if not source.flags.writeable or source.strides[2] < 0:
        source = source.copy()
    batch = torch.from_numpy(source)[None].permute(0, 3, 1, 2)  # channels last, also for torch
    factors = [(scaled[axis] + 1e-6) / image.shape[axis] for axis in (0, 1)]
    out = functional.interpolate(batch, scale_factor=factors, mode=kernel, antialias=True)
    resized = out[0].permute(1, 2, 0).numpy()
    row, col = origin[0] - row, origin[1] - col
    return resized[row : row + shape[0], col : col + shape[1]]


def _span(size: int, scaled: int, first: int, count: int, support: int) -> tuple[int, int, int]:
    """Source pixels [start, stop) for scaled pixels first..first+count, and start on the scale.

    The kernel lays its grid from the corner of its input, so the start must fall on a source pixel
    edge: the last scaled pixel before `first` that does (to `_PHASE`) is taken, with a margin so
    that the cut has no effect. Pixel 0 always qualifies.
    """
    ratio = size / scaled
    reach = support * max(ratio, 1.0) + 1
    stop = min(size, math.ceil((first + count) * ratio + reach))
    last = first - math.ceil(reach / ratio)
    start = 0
    if last > 0:
        edges = np.arange(last + 1) * ratio + 1e-9
        start = int(np.flatnonzero(edges - np.floor(edges) < _PHASE)[-1])
    first_pixel = int(start * ratio + 1e-9)
    length = stop - first_pixel
    if int(length / ratio) == length:  # torch would take this for "no resize"
        return 0, size, 0
    return first_pixel, stop, start
