# SPDX-License-Identifier: Apache-2.0
"""The mmsegmentation training pipeline step by step, as its description reads, on BGR arrays.

The other side of `benchmarks.pipeline --augmentation mmseg`: OpenCV and NumPy, one pass over the
pixels per step, float32 arithmetic.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from PIL import Image

from datasets.spec import Item

IMG_SCALE = (2048, 512)
CROP = (512, 512)
MEAN = np.array((123.675, 116.28, 103.53))
STD = np.array((58.395, 57.12, 57.375))


def _scaled(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ratio = np.random.random_sample() * 1.5 + 0.5  # noqa: NPY002
    long, short = (int(side * ratio) for side in IMG_SCALE)
    height, width = label.shape
    factor = min(long / max(height, width), short / min(height, width))
    size = int(width * factor + 0.5), int(height * factor + 0.5)
    return (
        np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)),
        np.asarray(cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)),
    )


def _box(label: np.ndarray) -> tuple[slice, slice]:
    tops, lefts = (max(label.shape[axis] - CROP[axis], 0) for axis in (0, 1))
    top, left = np.random.randint(tops + 1), np.random.randint(lefts + 1)  # noqa: NPY002
    return slice(top, top + CROP[0]), slice(left, left + CROP[1])


def _cropped(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    box = _box(label)
    for _ in range(10):
        values, counts = np.unique(label[box], return_counts=True)
        counts = counts[values != 255]
        if len(counts) > 1 and counts.max() / counts.sum() < 0.75:
            break
        box = _box(label)
    return image[box], label[box]


def _changed(image: np.ndarray, factor: float = 1, offset: float = 0) -> np.ndarray:
    values = image.astype(np.float32) * factor + offset
    return np.clip(values, 0, 255).astype(np.uint8)


def _coin() -> bool:
    return bool(np.random.randint(2))  # noqa: NPY002


def _distorted(image: np.ndarray) -> np.ndarray:
    uniform = np.random.uniform  # noqa: NPY002
    if _coin():
        image = _changed(image, offset=uniform(-32, 32))
    first = _coin()
    if first and _coin():
        image = _changed(image, uniform(0.5, 1.5))
    if _coin():
        hsv = np.array(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
        hsv[:, :, 1] = _changed(hsv[:, :, 1], uniform(0.5, 1.5))
        image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR))
    if _coin():
        hsv = np.array(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
        hue = hsv[:, :, 0].astype(int) + np.random.randint(-18, 18)  # noqa: NPY002
        hsv[:, :, 0] = hue % 180
        image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR))
    if not first and _coin():
        image = _changed(image, uniform(0.5, 1.5))
    return image


def mmseg_sample(item: Item) -> tuple[torch.Tensor, torch.Tensor]:
    """One training sample, (3, H, W) float and (1, H, W) int64."""
    assert item.label is not None
    image = np.asarray(cv2.imdecode(np.fromfile(item.image, np.uint8), cv2.IMREAD_COLOR))
    label = np.array(Image.open(item.label)).squeeze().astype(np.uint8)
    image, label = _cropped(*_scaled(image, label))
    if np.random.rand() < 0.5:  # noqa: NPY002
        image, label = np.flip(image, 1).copy(), np.flip(label, 1).copy()
    values = np.asarray(cv2.cvtColor(_distorted(image).astype(np.float32), cv2.COLOR_BGR2RGB))
    cv2.subtract(values, MEAN.reshape(1, -1), values)
    cv2.multiply(values, 1 / STD.reshape(1, -1), values)
    below, right = (CROP[axis] - label.shape[axis] for axis in (0, 1))
    kind = cv2.BORDER_CONSTANT
    values = np.asarray(cv2.copyMakeBorder(values, 0, below, 0, right, kind, value=0))
    label = np.asarray(cv2.copyMakeBorder(label, 0, below, 0, right, kind, value=255))
    chw = np.ascontiguousarray(values.transpose(2, 0, 1))
    return torch.from_numpy(chw), torch.from_numpy(label[None].astype(np.int64))
