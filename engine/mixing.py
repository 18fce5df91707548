# SPDX-License-Identifier: Apache-2.0
"""What happens to a batch of labelled images between loader and network: mixup and cutmix.

Mixing draws from NumPy's global generator of the main process, whose state every checkpoint
holds: a resumed run mixes exactly as an uninterrupted one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from datasets.batch import Batch
from runtime.errors import UserError
from transforms.imagenet import load_timm


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How images of a batch are blended; the defaults are the published recipe's.

    mixup, cutmix: alpha of the Beta distribution of the share, 0 switches it off. cutmix_minmax:
    smallest and largest side of the pasted box as shares of the image. prob: how often a batch is
    mixed at all. switch_prob: how often by cutmix when both are on. mode: one share for the whole
    `batch`, for each `pair` or for each `elem`. off_epoch: no mixing from this epoch on.
    smoothing: label smoothing, part of the mixed targets.
    Source: Zhang et al., "mixup" (2018); Yun et al., "CutMix" (2019).
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    cutmix_minmax: tuple[float, float] | None = None
    prob: float = 1.0
    switch_prob: float = 0.5
    mode: str = "batch"
    off_epoch: int | None = None
    smoothing: float = 0.1

    @property
    def is_on(self) -> bool:
        """Whether images are mixed in any epoch."""
        return self.mixup > 0 or self.cutmix > 0 or self.cutmix_minmax is not None


class BatchMixer:
    """Turns labels (B,) into mixed targets (B, K) and images into their blends, by timm."""

    def __init__(self, mixing: Mixing, num_classes: int, batch_size: int) -> None:
        if batch_size % 2:
            raise UserError(
                f"--bs_trn {batch_size}: mixup and cutmix pair the images of a batch; choose an "
                "even number, or switch both off (--mixup 0 --cutmix 0)"
            )
        self.off_epoch = mixing.off_epoch
        self.mixup = load_timm("data.mixup").Mixup(
            mixup_alpha=mixing.mixup,
            cutmix_alpha=mixing.cutmix,
            cutmix_minmax=mixing.cutmix_minmax,
            prob=mixing.prob,
            switch_prob=mixing.switch_prob,
            mode=mixing.mode,
            label_smoothing=mixing.smoothing,
            num_classes=num_classes,
        )

    def __call__(self, batch: Batch, epoch: int) -> Batch:
        """The mixed batch, on the device of `batch`; without mixing, smoothed targets."""
        self.mixup.mixup_enabled = self.off_epoch is None or epoch < self.off_epoch
        images, targets = self.mixup(batch.images, batch.labels)
        return dataclasses.replace(batch, images=images, labels=targets)


class UnreadableLog:
    """Names each file that could not be read once; `count` of them on this rank.

    `named` holds the files that an earlier log of this run has named, and receives those of this
    one.
    """

    def __init__(
        self, log: Callable[[str], None], what: str, named: set[str] | None = None
    ) -> None:
        self._log, self._what = log, what
        self._named = set() if named is None else named
        self.lines: dict[str, str] = {}

    @property
    def count(self) -> int:
        """Number of different files so far."""
        return len(self.lines)

    def note(self, batch: Batch) -> None:
        """Log the files of `batch` that were not seen before."""
        for name, reason in batch.failed:
            self.lines.setdefault(name, reason)
            if name not in self._named:
                self._named.add(name)
                self._log(f"not read, {self._what}: {reason}")
