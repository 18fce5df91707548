# SPDX-License-Identifier: Apache-2.0
"""Boundary F-score: how well the outlines of each class agree, within a tolerance in pixels.

Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation", CVPR 2016, section 5.2; per class as in Takikawa et al., "Gated-SCNN", ICCV 2019.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]

TITLES = ("Precision", "Recall")  # columns of the table beside F


def boundary_radius(height: int, width: int, threshold: float) -> int:
    """Tolerance in pixels: `threshold` itself if >= 1, else that share of the diagonal."""
    return math.ceil(threshold if threshold >= 1 else threshold * math.hypot(height, width))


def boundary_map(mask: Bytes) -> Bytes:
    """Outline of a 0/1 mask (H, W): 1 where a pixel differs from its right, lower or
    lower-right neighbour; outside the image there is no neighbour to differ from."""
    edge = np.zeros_like(mask)
    down = mask[1:] ^ mask[:-1]
    right = mask[:, 1:] ^ mask[:, :-1]
    edge[:-1] |= down
    edge[:, :-1] |= right
    edge[:-1, :-1] |= mask[1:, 1:] ^ mask[:-1, :-1]
    return edge


def boundary_f(
    pred: Bytes, label: Bytes, num_classes: int, threshold: float = 0.008
) -> tuple[Floats, Floats, Floats]:
    """F-score, precision and recall (K,) of class maps (H, W) of one image.

    Labels outside 0..K-1 are ignored: they belong to no class in either map. A class in
    neither map has 1, 1, 1; one in the prediction alone has precision 0 and recall 1, one in
    the label alone precision 1 and recall 0. Raises ValueError for different shapes.
    """
    if pred.shape != label.shape:
        raise ValueError(f"prediction {pred.shape} and label {label.shape} differ")
    height, width = label.shape
    radius = boundary_radius(height, width, threshold)
    ignored = label >= num_classes
    pred = np.where(ignored, label, pred)
    scores = [_one_class(pred == k, label == k, radius) for k in range(num_classes)]
    precision, recall = np.array(scores, dtype=np.float64).reshape(-1, 2).T
    both = precision + recall
    f_score = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    return f_score, precision, recall


def _one_class(pred: Bools, label: Bools, radius: int) -> tuple[float, float]:
    """Precision and recall of the outline of one class."""
    pred_edge, label_edge = (boundary_map(mask.view(np.uint8)) for mask in (pred, label))
    num_pred, num_label = cv2.countNonZero(pred_edge), cv2.countNonZero(label_edge)
    if num_pred == 0 or num_label == 0:
        return float(num_pred == 0), float(num_label == 0)
    # Only the rectangle that holds both outlines matters: no query lies outside.
    x, y, width, height = cv2.boundingRect(pred_edge | label_edge)
    window = (slice(y, y + height), slice(x, x + width))
    pred_edge, label_edge = pred_edge[window], label_edge[window]
    disk = _disk(radius)
    hit_pred = cv2.countNonZero(cv2.bitwise_and(pred_edge, cv2.dilate(label_edge, disk)))
    hit_label = cv2.countNonZero(cv2.bitwise_and(label_edge, cv2.dilate(pred_edge, disk)))
    return hit_pred / num_pred, hit_label / num_label


def _disk(radius: int) -> Bytes:
    """0/1 mask (2r+1, 2r+1) of the offsets with dy^2 + dx^2 <= r^2."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk: Bytes = (y * y + x * x <= radius * radius).astype(np.uint8)
    return disk


@dataclass
class BoundaryScores:
    """Mean boundary scores over images, one image in memory at a time.

    `sums` (3, K) holds F, precision and recall added up, `num_images` their number: ranks are
    joined by adding both.
    """

    num_classes: int
    threshold: float = 0.008
    num_images: int = 0
    sums: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.sums = np.zeros((3, self.num_classes))

    def update(self, pred: Bytes, label: Bytes) -> None:
        """Count one image, class maps (H, W) uint8; see `boundary_f`."""
        self.sums += boundary_f(pred, label, self.num_classes, self.threshold)
        self.num_images += 1

    def f_score(self) -> Floats:
        """Mean F of each class (K,), over all images; NaN before the first one."""
        if self.num_images == 0:
            return np.full(self.num_classes, np.nan)
        mean: Floats = self.sums[0] / self.num_images
        return mean

    def mean_f(self) -> float:
        """Plain mean over the classes."""
        return float(self.f_score().mean())

    def table(self, class_names: Sequence[str]) -> str:
        """One line a class and one for the mean: F, precision and recall in %."""
        means = 100 * self.sums / max(self.num_images, 1)
        columns = [*means.T, means.mean(1)]
        names = [*class_names, "mean"]
        width = max(len("boundary"), *map(len, names))
        rows = [
            f"{name:<{width}}" + "".join(f"{value:>11.2f}" for value in values)
            for name, values in zip(names, columns, strict=True)
        ]
        head = f"{'boundary':<{width}}" + "".join(f"{name:>11}" for name in ("F", *TITLES))
        return "\n".join([head, *rows])
