# SPDX-License-Identifier: Apache-2.0
"""Boundary F-score: how well the outlines of each class agree, within a tolerance in pixels.

All classes are counted at once: a pixel holds one bit for each class whose outline it belongs
to, so another class costs next to nothing, and so does another tolerance.

Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation", CVPR 2016, section 5.2; per class as in Takikawa et al., "Gated-SCNN", ICCV 2019;
over all classes at once as HILA (Leung et al., 2022) scores ADE20K.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Places = NDArray[np.intp]
Bits = NDArray[Any]  # unsigned integers, one bit per class

MODIFIED_RADIUS = 3  # px, tolerance of the modified F-score
WORDS = (np.uint8, np.uint16, np.uint32, np.uint64)
BITS = 64  # classes counted at once
BLOCK_ROWS = 32  # rows of an outline that are grown together, so that they stay in the cache


def boundary_radius(height: int, width: int, threshold: float) -> int:
    """Tolerance in pixels: `threshold` itself if >= 1, else that share of the diagonal."""
    return math.ceil(threshold if threshold >= 1 else threshold * math.hypot(height, width))


def outline(ids: NDArray[Any]) -> Bools:
    """Where a class map or mask (H, W) differs from its right, lower or lower-right neighbour;
    outside the image there is no neighbour to differ from."""
    edge = np.zeros(ids.shape, np.bool_)
    edge[:-1] |= ids[1:] != ids[:-1]
    edge[:, :-1] |= ids[:, 1:] != ids[:, :-1]
    edge[:-1, :-1] |= ids[1:, 1:] != ids[:-1, :-1]
    return edge


def boundary_f(
    pred: Bytes,
    label: Bytes,
    num_classes: int,
    thresholds: Sequence[float] = (0.008,),
    *,
    ignore_label: int | None = None,
    missing: float = 1.0,
) -> Floats:
    """F-score, precision and recall (T, 3, K) of class maps (H, W) of one image.

    Labels outside 0..K-1, or with `ignore_label` that one alone, are ignored: they belong to no
    class in either map. A class without an outline in either map has `missing` three times; with
    one only in the prediction precision 0 and recall 1, only in the label precision 1 and recall 0.
    Raises ValueError for different shapes.
    """
    pred, _ = _without_ignored(pred, label, num_classes, ignore_label)
    height, width = label.shape
    radii = [boundary_radius(height, width, each) for each in thresholds]
    counts = np.zeros((len(radii), 4, num_classes), np.int64)
    pixels = sum(
        np.bincount(ids.ravel(), minlength=num_classes)[:num_classes] for ids in (pred, label)
    )
    present = np.flatnonzero(pixels)
    for start in range(0, len(present), BITS):
        classes = present[start : start + BITS]
        codes = _codes(classes)
        counts[..., classes] = _agreement(
            _class_outlines(pred, codes), _class_outlines(label, codes), radii, len(classes)
        )
    return _ratios(counts, missing)


def modified_f(
    pred: Bytes,
    label: Bytes,
    num_classes: int,
    radius: int = MODIFIED_RADIUS,
    *,
    ignore_label: int | None = None,
    missing: float = 1.0,
) -> Floats:
    """F-score, precision and recall (1, 3, 1) of the outlines between any two classes.

    Arguments as in `boundary_f`. Ignored pixels belong to no outline, but what lies next to them
    does.
    """
    pred, ignored = _without_ignored(pred, label, num_classes, ignore_label)
    sides = (_any_outlines(ids, ignored) for ids in (pred, label))
    return _ratios(_agreement(next(sides), next(sides), [radius], 1), missing)


def _without_ignored(
    pred: Bytes, label: Bytes, num_classes: int, ignore_label: int | None
) -> tuple[Bytes, Bools]:
    """The prediction, replaced by the label where that is ignored, and the mask of these pixels."""
    if pred.shape != label.shape:
        raise ValueError(f"prediction {pred.shape} and label {label.shape} differ")
    ignored: Bools = label >= num_classes if ignore_label is None else label == ignore_label
    return np.where(ignored, label, pred), ignored


@dataclass(frozen=True)
class _Outlines:
    """Pixels on outlines: flat positions in a map of `shape`, ascending, and class bits."""

    places: Places
    bits: Bits
    shape: tuple[int, int]

    def blocks(self) -> Iterator[tuple[int, Bits]]:
        """Bits as maps of a few rows, each with its first row; empty ones are skipped."""
        height, width = self.shape
        for first in range(0, height, BLOCK_ROWS):
            last = min(first + BLOCK_ROWS, height)
            begin, end = np.searchsorted(self.places, (first * width, last * width))
            if begin < end:
                rows = np.zeros((last - first, width), self.bits.dtype)
                rows.ravel()[self.places[begin:end] - first * width] = self.bits[begin:end]
                yield first, rows


def _codes(classes: NDArray[np.intp]) -> Bits:
    """A bit for each of up to BITS classes (256,) in the smallest type, 0 for other ids."""
    kind = next(kind for kind in WORDS if 8 * kind().itemsize >= len(classes))
    codes = np.zeros(256, kind)
    codes[classes] = np.left_shift(np.ones(1, kind), np.arange(len(classes), dtype=kind))
    return codes


def _class_outlines(ids: Bytes, codes: Bits) -> _Outlines:
    """Outlines of the classes that have a bit in `codes`."""
    height, width = ids.shape
    flat, places = ids.ravel(), np.flatnonzero(outline(ids))
    right, down = places % width < width - 1, places < (height - 1) * width
    own = codes[flat[places]]
    bits = np.zeros_like(own)
    for step, inside in ((1, right), (width, down), (width + 1, right & down)):
        bits |= own ^ codes[flat[places + step * inside]]
    return _Outlines(places, bits, (height, width))


def _any_outlines(ids: Bytes, ignored: Bools) -> _Outlines:
    """Outlines between any two ids; ignored pixels are on none."""
    height, width = ids.shape
    places = np.flatnonzero(outline(ids) & ~ignored)
    return _Outlines(places, np.ones(len(places), np.uint8), (height, width))


def _agreement(
    pred: _Outlines, label: _Outlines, radii: Sequence[int], num_bits: int
) -> NDArray[np.int64]:
    """Pixels on outlines, of the prediction and of the label: those near the other one, and all.

    (R, 4, bits): near, all, near, all.
    """
    near_label, near_pred = _near(pred, label, radii), _near(label, pred, radii)
    num_pred, num_label = _count(pred.bits, num_bits), _count(label.bits, num_bits)
    rows = [
        (
            _count(hit & pred.bits, num_bits),
            num_pred,
            _count(back & label.bits, num_bits),
            num_label,
        )
        for hit, back in zip(near_label, near_pred, strict=True)
    ]
    return np.array(rows, np.int64)


def _count(bits: Bits, num_bits: int) -> NDArray[np.int64]:
    """How many of `bits` have each bit set."""
    masks = bits.dtype.type(1) << np.arange(num_bits, dtype=bits.dtype)
    return np.array([np.count_nonzero(bits & mask) for mask in masks], np.int64)


def _near(asked: _Outlines, outlines: _Outlines, radii: Sequence[int]) -> list[Bits]:
    """For each radius, the bits of `outlines` within a disk around the positions of `asked`.

    A disk is a stack of row segments: rows grow sideways by one pixel at a time, and whenever
    they have the width of a segment, the positions that see it at their height read it.
    """
    places, width = asked.places, asked.shape[1]
    found = [np.zeros(len(places), outlines.bits.dtype) for _ in radii]
    segments = _segments(radii)
    for first, rows in outlines.blocks():
        grown = rows.copy()
        for reach in range(max(radii, default=0) + 1):
            if 0 < reach < width:
                grown[:, reach:] |= rows[:, :-reach]
                grown[:, :-reach] |= rows[:, reach:]
            for number, step in segments.get(reach, ()):
                offset = (first - step) * width
                begin, end = np.searchsorted(places, (offset, offset + rows.size))
                found[number][begin:end] |= grown.ravel()[places[begin:end] - offset]
    return found


def _segments(radii: Sequence[int]) -> dict[int, list[tuple[int, int]]]:
    """Half width of a row of a disk -> (number of the radius, rows from the centre)."""
    found: dict[int, list[tuple[int, int]]] = {}
    for number, radius in enumerate(radii):
        for step in range(-radius, radius + 1):
            reach = math.isqrt(radius * radius - step * step)
            found.setdefault(reach, []).append((number, step))
    return found


def _ratios(counts: NDArray[np.int64], missing: float) -> Floats:
    """F, precision and recall (R, 3, K) from the counts of `_agreement` (R, 4, K)."""
    hit_pred, num_pred, hit_label, num_label = counts.swapaxes(0, 1).astype(np.float64)
    one_empty = (num_pred == 0) | (num_label == 0)
    precision = np.where(one_empty, num_pred == 0, hit_pred / np.maximum(num_pred, 1))
    recall = np.where(one_empty, num_label == 0, hit_label / np.maximum(num_label, 1))
    both = precision + recall
    f_score = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    scores = np.stack([f_score, precision, recall], axis=1)
    empty = (num_pred == 0) & (num_label == 0)
    return np.where(empty[:, None], missing, scores)
