# SPDX-License-Identifier: Apache-2.0
"""What was published and hiseg does otherwise, for the numbers that were recorded with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np
from skimage.restoration import denoise_bilateral
from torch import Tensor

from datasets.centroids import Points, label_centroids
from datasets.samplers import Part
from engine.predict import Infer
from engine.windows_hanet import ScaledImages, one_pass
from transforms.joint import CenterCropPad, show
from transforms.resample import Window
from transforms.sample import Sample

T = TypeVar("T")
Tail = Literal["pad", "drop"]


class OffCentreCropPad(CenterCropPad):
    """The published arithmetic of the validation square.

    It pads by the full missing amount on both sides but places the crop by the unpadded size: a
    short axis shows the image one and a half times the missing amount late, the part before the
    padding black and of class 0.
    """

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        starts = [round((side - self.size) / 2) for side in sample.size]
        pads = [max(self.size - side, 0) for side in sample.size]
        window = Window(
            scaled=sample.size,
            top=starts[0] - pads[0],
            left=starts[1] - pads[1],
            height=self.size,
            width=self.size,
        )
        shown = show(sample, window, self.ignore_label)
        if shown.label is not None:
            shown.label[: max(-starts[0], 0)] = 0
            shown.label[:, : max(-starts[1], 0)] = 0
        return shown


def dark_bilateral_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """`bilateral_blur` that mixes black from outside into the outermost pixels."""
    blurred = denoise_bilateral(image, sigma_spatial=sigma, mode="constant", channel_axis=2)
    return np.asarray((blurred * 255).astype(np.uint8))


def unclipped_centroids(label: np.ndarray, num_classes: int, tile: int) -> Points:
    """`label_centroids` where an image smaller than the tile has no tile and gives nothing."""
    return label_centroids(label, num_classes, tile) if min(label.shape) >= tile else {}


def spread_part(
    order: Sequence[T], rank: int, world: int, tail: Tail, multiple: int = 1
) -> list[T]:
    """Every world-th entry, as the training here has them, a multiple of `multiple` of them.

    tail: what happens to a list that does not divide: "pad" repeats it from its beginning, which is
    what `Part` does, "drop" cuts it.
    """
    if tail == "pad":
        part = Part(rank=rank, world=world, ranks=world, batch_size=multiple)
        return [order[place % len(order)] for place in part.places(len(order)).tolist()]
    unit = world * multiple
    return list(order[: len(order) // unit * unit])[rank::world]


def consecutive_part(
    order: Sequence[T], rank: int, world: int, tail: Tail, multiple: int = 1
) -> list[T]:
    """`spread_part` in contiguous blocks instead of every world-th entry."""
    entries = spread_part(order, 0, 1, tail, world * multiple)
    share = len(entries) // world
    return entries[rank * share : (rank + 1) * share]


class SizedPooling(ScaledImages):
    """HANet's pooling, averaged and returned at one size (H, W) whatever the image."""

    def __init__(
        self, infer: Infer, scales: Sequence[float], size: tuple[int, int], *, flip: bool
    ) -> None:
        views = [(scale, one_pass(infer)) for scale in scales]
        super().__init__(views, flip=flip, kernel="bicubic", average="probs")
        self.size = size

    def size_of(self, image: Tensor) -> tuple[int, int]:
        return self.size
