# SPDX-License-Identifier: Apache-2.0
"""Boundary ground truth of a label map: how far it is to the next class, and which way is inside.

Two uint8 maps (H, W). `depth`: Euclidean distance to the nearest pixel of another class, in whole
pixels: 1 right at the boundary, at most `MAX_DEPTH`, 0 where there is no region. `direction`: the
angle of the distance's gradient as (degrees + 180) / 2, so 0..180; an angle of 0 points right, 90
points down, and all of them point to the inside of the region. `NO_DIRECTION` (angle 0) where there
is no region. Both are truncated to whole numbers.

Source: the boundary supervision of UN-EPT (section 3.2 of Zhu et al., "UN-EPT: Unified Efficient
Pyramid Transformer for Semantic Segmentation", 2021), in the format of SegFix (Yuan et al.,
"SegFix: Model-Agnostic Boundary Refinement for Segmentation", 2020).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.uint8]

DEPTH, ANGLE = "boundary_depth", "boundary_angle"  # names of the maps among `Sample.extras`
FIXED_ANGLE = "boundary_angle_fixed"  # the angle map that mirroring does not turn
MAX_DEPTH, NO_DIRECTION, HALF_TURN = 250, 90, 180
MIN_PIXELS = 100  # smaller classes, counted over the image, make no region
DEGREES_PER_STEP = 2  # of the stored direction
KERNEL_RADIUS = 2


def _gradient_kernels() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """5x5 kernels (rows, columns): offset / squared distance, 0 in the centre."""
    offsets = np.arange(-KERNEL_RADIUS, KERNEL_RADIUS + 1, dtype=np.float32)
    rows, columns = np.meshgrid(offsets, offsets, indexing="ij")
    squares = rows**2 + columns**2
    squares[KERNEL_RADIUS, KERNEL_RADIUS] = 1
    return rows / squares, columns / squares


ROW_KERNEL, COLUMN_KERNEL = _gradient_kernels()


def boundary_maps(
    label: Map, num_classes: int, void_classes: Iterable[int] = ()
) -> tuple[Map, Map]:
    """`depth` and `direction` of train ids (H, W).

    Regions are the classes 0..num_classes-1 without `void_classes` that have at least
    `MIN_PIXELS` in the image. One class everywhere has no boundary: depth `MAX_DEPTH`.
    """
    depth = np.zeros(label.shape, np.float32)
    gradient = np.zeros((2, *label.shape), np.float32)
    counts = np.bincount(label.ravel(), minlength=256)
    if counts.max(initial=0) == label.size and label.size:
        only = int(counts.argmax())
        is_region = only < num_classes and only not in set(void_classes)
        return (
            np.full(label.shape, MAX_DEPTH if is_region else 0, np.uint8),
            np.full(label.shape, NO_DIRECTION, np.uint8),
        )
    for class_id in set(np.flatnonzero(counts[:num_classes] >= MIN_PIXELS)) - set(void_classes):
        _add_class(label, int(class_id), depth, gradient)
    degrees = np.degrees(np.arctan2(gradient[0], gradient[1]))
    direction = ((degrees + np.float32(HALF_TURN)) / np.float32(DEGREES_PER_STEP)).astype(np.uint8)
    return np.minimum(depth, MAX_DEPTH).astype(np.uint8), direction


def _add_class(
    label: Map,
    class_id: int,
    depth: npt.NDArray[np.float32],
    gradient: npt.NDArray[np.float32],
) -> None:
    """Fill in the pixels of one class, in place.

    Only the box around the class is computed, one pixel wider than the class: the nearest pixel
    of another class never lies beyond. Kernels see zeros outside the class and the image.
    """
    mask = (label == class_id).astype(np.uint8)
    left, top, width, height = cv2.boundingRect(mask)
    box = (
        slice(max(top - 1, 0), top + height + 1),
        slice(max(left - 1, 0), left + width + 1),
    )
    inside = mask[box]
    distance = _exact(cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
    inside = inside > 0
    depth[box][inside] = distance[inside]
    for part, kernel in zip(gradient, (ROW_KERNEL, COLUMN_KERNEL), strict=True):
        slope = cv2.filter2D(distance, cv2.CV_32F, kernel, borderType=cv2.BORDER_CONSTANT)
        part[box][inside] = slope[inside]


def _exact(distance: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Distances on the pixel grid, each the float32 nearest to the root of its whole square.

    OpenCV's last bit depends on where the map lies in memory. Halfway between two sides the
    gradient is a sum that cancels: there the last bit would choose the direction, and the same
    training would end with other weights. Holds for distances up to 1100 pixels.
    """
    return np.sqrt(np.rint(np.square(distance)))


def mirrored(name: str, values: np.ndarray) -> np.ndarray:
    """The values of the extra map `name` after its image was mirrored left and right.

    `ANGLE` becomes 180 degrees minus itself, on the same half-degree grid; all other maps stay.
    """
    if name != ANGLE:
        return values
    return np.asarray(cv2.LUT(np.ascontiguousarray(values), _MIRRORED_ANGLES))


def _mirrored_angles() -> Map:
    """Table of `mirrored`: 90 -> 180, 0 and 180 (both: left) -> 90; padding stays."""
    table = np.arange(256)
    known = table <= HALF_TURN
    turned = 3 * HALF_TURN // 2 - table
    table[known] = np.where(turned > HALF_TURN, turned - HALF_TURN, turned)[known]
    return table.astype(np.uint8)


_MIRRORED_ANGLES = _mirrored_angles()

Linear = tuple[tuple[float, float], tuple[float, float]]  # rows of a 2x2 matrix on (x, y)


def turned(name: str, values: np.ndarray, degrees: float) -> np.ndarray:
    """The values of the extra map `name` after its image was turned anticlockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return regraded(name, values, ((cos, -sin), (sin, cos)))


def regraded(name: str, values: np.ndarray, to_source: Linear) -> np.ndarray:
    """The values of the extra map `name` after its image went through a linear map.

    `to_source` maps positions in the new image to positions in the old one; the gradient of the
    distance goes through its transpose. This concerns `ANGLE` only; other maps and padding stay.
    """
    if name != ANGLE or to_source == ((1, 0), (0, 1)):
        return values
    (xx, xy), (yx, yy) = to_source
    middle = np.radians(DEGREES_PER_STEP * (np.arange(HALF_TURN + 1) + 0.5) - HALF_TURN)
    x, y = np.cos(middle), np.sin(middle)
    degrees = np.degrees(np.arctan2(xy * x + yy * y, xx * x + yx * y))
    table = np.arange(256)
    table[: HALF_TURN + 1] = (degrees + HALF_TURN) // DEGREES_PER_STEP
    return np.asarray(cv2.LUT(np.ascontiguousarray(values), table.astype(np.uint8)))
