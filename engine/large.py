# SPDX-License-Identifier: Apache-2.0
"""Images that are too large to pass through a network whole: in windows, a block at a time.

How many pixels one pass may have is what the user says, or what fits into the free memory: three
small passes are measured, and what they needed is extrapolated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from datasets.batch import Batch
from engine.blocks import in_blocks
from engine.compute import Compute, free_memory
from engine.predict import Beside, Infer
from engine.windows import Box, cut
from network.outputs import PRED
from runtime.memory import peak_above
from runtime.progress import Log
from transforms.normalize import to_network

ALWAYS_WHOLE = 1 << 22  # pixels up to which nothing is measured: 2048x2048
PROBES = (256, 512, 768)  # sides of the images of the measured passes
SHARE = 0.7  # of the free memory that a pass may need
IMAGE_BYTES = 32  # of a pixel beside the pass: the image read and normalised, classes, confidence
UNMEASURED = 4096.0  # bytes of a pixel where nothing can be measured: more than most networks need
CURVED = 1.25  # a need that rises so much faster between the larger probes is no straight line
NOTABLE = 0.1  # and whose bend makes so much of the largest: less is noise
LARGEST_SIDE, LEAST_SIDE = 1024, 32  # of a window
MULTIPLE = 32  # of its sides: the stride of most networks


@dataclass(kw_only=True)
class Large:
    """What becomes of batches of large images.

    max_pixels: of one pass; None: what the free memory allows, which is not asked for images of up
    to ALWAYS_WHOLE. `log` gets one line when an image is cut for the first time.
    """

    max_pixels: int | None
    log: Log
    _known: int | None = field(default=None, init=False)
    _told: bool = field(default=False, init=False)

    def wants(self, infer: Infer, batch: Batch, compute: Compute) -> bool:
        """Whether the images of `batch` are too large for `infer`."""
        if not batch.holds_bytes or batch.originals is not None or any(batch.valid):
            return False
        height, width = batch.images.shape[1:3]
        if self.max_pixels is None and height * width <= ALWAYS_WHOLE:
            return False
        if self._known is None:
            self._known = self.max_pixels or fitting(infer, batch, compute)
        if len(batch.names) * height * width <= self._known:
            return False
        if not self._told:
            self._told = True
            side, overlap = self._window()
            whence = "--max_pixels" if self.max_pixels else "what fits into the free memory"
            self.log(
                f"{batch.names[0]}: {width}x{height} pixels are more than {self._known} "
                f"({whence}): windows of {side}x{side}, overlapping by {overlap} at least, "
                "for all such images (--max_pixels N, or none)"
            )
        return True

    def _window(self) -> tuple[int, int]:
        """Side and overlap: one window and what is held beside it count as one pass."""
        assert self._known is not None
        side = math.isqrt(self._known // 2) // MULTIPLE * MULTIPLE
        side = min(max(side, LEAST_SIDE), LARGEST_SIDE)
        return side, side // 4

    def blocks(self, infer: Infer, batch: Batch, compute: Compute) -> Iterator[tuple[Box, Tensor]]:
        """Parts of the images of `batch` and their scores (B, K, h, w), every pixel once."""
        side, overlap = self._window()
        height, width = batch.images.shape[1:3]
        stride = even_stride(height, side, side - overlap), even_stride(width, side, side - overlap)
        inputs = batch.images.permute(0, 3, 1, 2), batch.rows
        return in_blocks(_of_bytes(infer, compute), inputs, (side, side), stride)


def even_stride(length: int, side: int, most: int) -> int:
    """The step at which as many windows as a step of `most` needs overlap alike.

    The last one would otherwise be moved inwards by up to a window, all of which would be held.
    """
    count = -(-(length - side) // most)
    return -(-(length - side) // count) if count > 0 else most


def _of_bytes(infer: Infer, compute: Compute) -> Infer:
    """`infer` for parts of images as they were read, uint8 (B, 3, h, w) on the host."""
    if isinstance(infer, Beside):  # what it adds are maps of whole images
        infer = infer.infer

    def run(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        moved = images.permute(0, 2, 3, 1).to(compute.device)
        rows = None if rows is None else rows.to(compute.device)
        with compute.autocast():
            return {PRED: infer(to_network(moved), rows)[PRED]}

    return run


def fitting(infer: Infer, batch: Batch, compute: Compute) -> int:
    """Pixels of the largest pass of `infer` that the free memory has room for.

    Parts of the images of `batch`, which holds bytes, are passed to find out.
    """
    free = free_memory(compute.device)
    if free is None:
        return 1 << 62
    run, peaks = _of_bytes(infer, compute), []
    first = batch.images[:1].permute(0, 3, 1, 2)
    for side in (PROBES[0], *PROBES):  # the first pass of all also sets up what stays
        box = Box(0, 0, min(side, first.shape[-2]), min(side, first.shape[-1]))
        images, rows = cut(first, None if batch.rows is None else batch.rows[:1], [box])
        peak = _peak(partial(run, images, rows), compute.device)
        peaks.append((images.shape[-2] * images.shape[-1], peak))
    return max(most_pixels(peaks[1:], SHARE * free), 1)


def most_pixels(peaks: list[tuple[int, int | None]], room: float) -> int:
    """The number of pixels whose pass needs `room` bytes; peaks: (pixels, bytes) of three passes.

    The need is a line through the measured ones, or a parabola where it bends upwards, as that of
    attention between all pixels does.
    """
    (n1, p1), (n2, p2), (n3, p3) = peaks
    if p1 is None or p2 is None or p3 is None or not n1 < n2 < n3:
        return int(room / (UNMEASURED + IMAGE_BYTES))
    low, high = (p2 - p1) / (n2 - n1), (p3 - p2) / (n3 - n2)
    bend = (high - low) / (n3 - n1) if high > CURVED * max(low, 0) else 0.0
    if bend * n3 * n3 < NOTABLE * p3:
        bend = 0.0
    slope = max(low, high, 0.0) if not bend else max(low - bend * (n1 + n2), 0.0)
    slope += IMAGE_BYTES
    base = max(p1 - (slope - IMAGE_BYTES) * n1 - bend * n1 * n1, 0.0)
    room = max(room - base, 0.0)
    if not bend:
        return int(room / slope)
    return int((math.sqrt(slope * slope + 4 * bend * room) - slope) / (2 * bend))


def _peak(call: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that `call()` needs at its highest, None where it cannot be measured."""
    if device.type != "cuda":
        return peak_above(call)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    return int(torch.cuda.max_memory_allocated(device)) - before
