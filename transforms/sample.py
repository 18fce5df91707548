# SPDX-License-Identifier: Apache-2.0
"""The one record that travels through all transforms, and how transforms draw and combine.

A transform is a callable `(sample, rng) -> sample`. Random ones are split in two: `draw` turns
a `Draws` into plain parameters, `apply` is a pure function of sample and parameters. The same
generator state therefore gives the same bytes, and any parameters can be replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

PAD_ROW = -1.0  # row position of rows that lie outside the image
EXTRA_PAD = 255  # value of extra maps outside the image


@dataclass
class Sample:
    """One image on its way to the network.

    image: (H, W, 3) uint8 RGB. label: (H, W) uint8 train ids, None without ground truth.
    centroid: (x, y) in pixels of `image` that the random crop should contain.
    rows: (H,) float32, for every row its position in the source image as a fraction of the
    source height (pixel centres, 0..1), `PAD_ROW` where there is only padding.
    source_size: (H, W) of the file.
    output_size: (H, W) that predictions are brought to, if it is not that of `image`; the label
    then has it too. original: the image as it was read, uint8 (H, W, 3), if only `image` was
    resized for the network; None while image and label still go together.
    valid: (H, W) of the image in the top left corner, if the rest is padding that the network sees
    as zero; None without such padding.
    extras: more (H, W) maps by name, uint8 or float32. They follow the label through all geometry,
    nearest pixel, `EXTRA_PAD` outside the image; only the values of boundary angles change
    (`transforms.boundary`).
    """

    image: np.ndarray
    label: np.ndarray | None
    name: str
    centroid: tuple[int, int] | None = None
    rows: np.ndarray | None = None
    source_size: tuple[int, int] = (0, 0)
    output_size: tuple[int, int] | None = None
    original: np.ndarray | None = None
    valid: tuple[int, int] | None = None
    extras: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.source_size == (0, 0):
            self.source_size = self.size
        if self.rows is None:
            self.rows = row_positions(self.size[0])

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image as it is now."""
        return self.image.shape[0], self.image.shape[1]


def row_positions(height: int) -> np.ndarray:
    """Centres of `height` rows as fractions of the height, (height,) float32."""
    return ((np.arange(height) + 0.5) / height).astype(np.float32)


Transform = Callable[[Sample, np.random.Generator], Sample]


class Compose:
    """Transforms one after the other, all drawing from the same generator."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = tuple(transforms)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        for transform in self.transforms:
            sample = transform(sample, rng)
        return sample

    def __repr__(self) -> str:
        return "\n".join(["Compose:", *(f"  {transform!r}" for transform in self.transforms)])


class Draws(Protocol):
    """The two kinds of draw that transforms need, named as in `random.Random`."""

    def uniform(self, a: float, b: float) -> float:
        """A float in [a, b]."""

    def randint(self, a: int, b: int) -> int:
        """An integer in [a, b], both ends included."""


class GeneratorDraws:
    """`Draws` from a NumPy generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def uniform(self, a: float, b: float) -> float:
        """A float in [a, b)."""
        return float(self._rng.uniform(a, b))

    def randint(self, a: int, b: int) -> int:
        """An integer in [a, b], both ends included."""
        return int(self._rng.integers(a, b, endpoint=True))
