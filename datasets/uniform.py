# SPDX-License-Identifier: Apache-2.0
"""Class-uniform epochs: which image, and around which point, for every draw of an epoch.

Source: "Improving Semantic Segmentation via Video Propagation and Label Relaxation"
(arXiv 1812.01593), section 4.1, class uniform sampling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Centroids = Mapping[int, Sequence[tuple[int, int, int]]]
Entry = tuple[int, tuple[int, int] | None]

_IMAGES = 1 << 20  # stream of the whole-image draws, apart from every class's own stream


def epoch_list(
    num_items: int,
    centroids: Centroids,
    pct: float,
    num_classes: int,
    seed: int,
    epoch: int,
    bias: Sequence[float] | None = None,
    pool: int | None = None,
) -> list[Entry]:
    """The draws of one epoch as (item, centroid), a pure function of the arguments.

    First the whole-image draws (centroid None), then the classes in ascending order, each
    `k = int(num_items * pct / num_classes)` times from a shuffled list that starts again when it is
    used up. `bias` multiplies k per class. A class without centroids yields nothing, so the epoch
    gets shorter by its k. `pool`: whole-image draws come from that many items instead.

    centroids: per class the (item, x, y) of its tiles, x and y in pixels of the whole image.
    Raises ValueError when `pct` is outside 0..1 or `bias` has another length than classes.
    """
    if not 0 <= pct <= 1:
        raise ValueError(f"class_uniform_pct {pct:g} is outside 0..1")
    if bias is not None and len(bias) != num_classes:
        raise ValueError(
            f"CLASS_UNIFORM_BIAS has {len(bias)} values for {num_classes} classes; give one each"
        )
    per_class = int(num_items * pct / num_classes)
    num_random = num_items - per_class * num_classes
    images = _cycle(pool or num_items, num_random, seed, epoch, _IMAGES)
    entries: list[Entry] = [(int(item), None) for item in images]
    for class_id in range(num_classes):
        points = centroids.get(class_id, ())
        count = int(per_class * bias[class_id]) if bias is not None else per_class
        for index in _cycle(len(points), count, seed, epoch, class_id):
            item, x, y = points[index]
            entries.append((item, (x, y)))
    return entries


@dataclass(frozen=True, kw_only=True)
class EpochPlan:
    """The draws of every epoch of fine images, followed by video frames and coarse images.

    num_fine: number of fine images, which is the length of an epoch and what whole-image draws
    come from, together with num_video frames. fine, video, coarse: centroids; items of each
    count from the first image of its kind. boost: classes that are drawn from coarse images too.
    only_coarse: class-uniform draws, of any class, come from coarse images only. From epoch
    max_cu_epoch on only fine images are drawn.
    """

    num_fine: int
    fine: Centroids
    num_video: int = 0
    video: Centroids = field(default_factory=dict)
    coarse: Centroids = field(default_factory=dict)
    boost: Sequence[int] = ()
    only_coarse: bool = False
    max_cu_epoch: int = 0
    pct: float
    num_classes: int
    seed: int
    bias: Sequence[float] | None = None

    def centroids(self, epoch: int) -> Centroids:
        """What `epoch` draws from, items counted through fine images, frames and coarse images."""
        if epoch >= self.max_cu_epoch:
            return self.fine
        classes = range(self.num_classes) if self.only_coarse else self.boost
        merged = {} if self.only_coarse else dict(self.fine)
        if not self.only_coarse:
            _append(merged, self.video, self.video, self.num_fine)
        _append(merged, self.coarse, classes, self.num_fine + self.num_video)
        return merged

    def __call__(self, epoch: int) -> list[Entry]:
        """The draws of an epoch, see `epoch_list`."""
        return epoch_list(
            self.num_fine,
            self.centroids(epoch),
            self.pct,
            self.num_classes,
            self.seed,
            epoch,
            self.bias,
            self.num_fine + (self.num_video if epoch < self.max_cu_epoch else 0),
        )


def _append(
    merged: dict[int, Sequence[tuple[int, int, int]]],
    more: Centroids,
    classes: Iterable[int],
    offset: int,
) -> None:
    """Add the points of `classes` in `more`, whose items begin at `offset`, in place."""
    for class_id in classes:
        moved = [(offset + item, x, y) for item, x, y in more.get(class_id, ())]
        merged[class_id] = [*merged.get(class_id, ()), *moved]


def _cycle(length: int, count: int, seed: int, epoch: int, stream: int) -> np.ndarray:
    """`count` indices below `length` from a shuffled cycle; empty when there is nothing."""
    if length == 0:
        return np.empty(0, np.int64)
    order = np.random.default_rng([seed, epoch, stream]).permutation(length)
    return np.resize(order, count)
