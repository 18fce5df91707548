# SPDX-License-Identifier: Apache-2.0
"""What evaluation hands on for every image, and what it expects of those who take it.

Processes that write files for a sink import this module, so that it must not load torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from runtime.errors import UserError

if TYPE_CHECKING:
    from metrics.confusion import Scores

Gather = Callable[[Any], list[Any]]


@dataclass(kw_only=True)
class ImageResult:
    """One evaluated image; arrays are on the host and belong to the receiver.

    `image` is there when a sink needs "image", `prob` (largest softmax value of the mean
    scores) when one needs "prob", `confidence`, its mean, when one needs "confidence", `assets`
    when one needs "assets": `attn_*` float32 (h, w) in 0..1 and `pred_*` uint8 (h, w) class ids,
    each at its own resolution. `gates` are there when one needs "gates": `gate_*` float32 (C, h)
    in 0..1. `confusion` is the matrix of this image alone, rows ground truth; None without a
    label. `scores` are there when one needs "scores": probabilities of all classes in their order,
    or of the most probable ones, falling, and then `score_ids` says which.
    """

    name: str  # relative, without suffix; sub-folders kept
    index: int  # position in the data set
    image: npt.NDArray[np.uint8] | None  # (H, W, 3) RGB
    label: npt.NDArray[np.uint8] | None  # (H, W) train ids
    pred: npt.NDArray[np.uint8]  # (H, W) train ids
    prob: npt.NDArray[np.float32] | None = None  # (H, W)
    confidence: float | None = None
    assets: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    gates: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    confusion: npt.NDArray[np.int64] | None = None  # (K, K)
    scores: npt.NDArray[np.float16] | None = None  # (T, H, W)
    score_ids: npt.NDArray[np.uint8] | None = None  # (T, H, W) train ids


@dataclass(frozen=True, kw_only=True)
class EvalSummary:
    """What an evaluation found, the same on every rank.

    `scores` is None without metrics, and so is `bands`: the scores of the height bands by key, see
    `metrics.bands`; `loss` is the mean over all pixels that count, None without a loss or labels.
    `skipped` images were already stored by all sinks. One line per file, "name: reason", is in
    `unreadable`. `not_finite` images had NaN or infinite scores.
    """

    scores: Scores | None
    loss: float | None
    num_images: int
    skipped: int
    seconds: float
    unreadable: list[str]
    bands: dict[str, Scores] | None = None
    not_finite: int = 0

    def headline(self) -> dict[str, float | None]:
        """The score for status.json."""
        return {"mean_iu": None if self.scores is None else self.scores.mean_iu}


def refuse_unread(num_images: int, unreadable: list[str]) -> None:
    """UserError for an evaluation without a single image: its scores would mean nothing.

    `num_images` is the number of images that were predicted or are stored, `unreadable` as in a
    summary.
    """
    if unreadable and not num_images:
        count = len(unreadable)
        raise UserError(
            f"none of the {count} images could be read and predicted, the first: {unreadable[0]}"
        )


def score_values(summary: EvalSummary) -> dict[str, float]:
    """The scores of a row of metrics.csv; all NaN if the network's scores were not finite.

    The predicted classes are then arbitrary, mostly class 0, and may score better than those of a
    good network.
    """
    scores = summary.scores
    assert scores is not None, "an evaluation without labels"
    values = {"mean_iu": scores.mean_iu, "acc_cls": scores.acc_cls, "acc": scores.acc}
    return dict.fromkeys(values, math.nan) if summary.not_finite else values


class Sink(Protocol):
    """Takes results while evaluation runs; evaluation does not know what becomes of them."""

    @property
    def needs(self) -> frozenset[str]:
        """Which costly parts of a result are read: of {"image", "prob", "confidence",
        "assets", "gates", "scores"}."""

    def wants(self, index: int) -> bool:
        """Whether the image at this position of the data set is to be added at all."""

    def done(self, name: str) -> bool:
        """Whether an earlier, interrupted evaluation already stored this image."""

    def add(self, result: ImageResult) -> None:
        """Store one image; OSError, UnicodeError, MemoryError or OutsideError if it cannot."""

    def close(
        self, rank: int, world: int, gather: Gather
    ) -> Sequence[tuple[str, Exception]] | None:
        """All images of this rank were added. Collective: called once on every rank.

        `gather` returns the argument of every rank on every rank, in rank order. A sink that goes
        on writing after `add` has returned gives the images that could not be stored, and why.
        """


class Measured(Protocol):
    """The scores of a metric besides those of the confusion matrix, for the log and results.json.

    Numbers are shares in 0..1, NaN where there is nothing to divide by.
    """

    @property
    def name(self) -> str:
        """The key of `totals` in results.json."""

    def values(self) -> Mapping[str, float]:
        """Entries of "metrics"."""

    def of_classes(self) -> Mapping[str, Sequence[float]]:
        """Entries of each class, in their order; none of a score without classes."""

    def totals(self) -> Mapping[str, object]:
        """What it was computed from, so that parts of a set add up."""

    def table(self, class_names: Sequence[str]) -> str:
        """Lines for the log."""


class MetricSink(Sink, Protocol):
    """A sink that counts instead of writing files."""

    @property
    def scores(self) -> Measured:
        """After `close`: those of all ranks, the same on each."""
