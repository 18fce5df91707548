# SPDX-License-Identifier: Apache-2.0
"""Evaluation of a classifier: loader -> top-1, top-5, loss, recall of every class."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datasets.batch import Batch
from engine.compute import UNWATCHED, Compute, Watch
from engine.mixing import UnreadableLog
from loss.soft_target import SoftTargetCrossEntropy
from metrics.result import refuse_unread
from metrics.topk import ClassScores, TopCounts
from network.outputs import PRED
from runtime.distributed import ALONE, Ranks
from runtime.limits import counted


@dataclass(frozen=True, kw_only=True)
class ClassSummary:
    """What an evaluation found, the same on every rank.

    `loss` is the mean cross entropy of all images. `unreadable` holds one line per file,
    "name: reason"; these images are in no score. `not_finite` images had NaN or infinite
    scores.
    """

    scores: ClassScores
    loss: float
    num_images: int
    seconds: float
    unreadable: list[str]
    not_finite: int = 0

    def values(self) -> dict[str, float]:
        """The scores of a row of metrics.csv; NaN if the network's scores were not finite."""
        values = {"top1": self.scores.top1, "top5": self.scores.top5}
        return dict.fromkeys(values, math.nan) if self.not_finite else values

    def line(self) -> str:
        """The scores in one line, in percent."""
        text = f"top-1 {100 * self.scores.top1:.2f}, top-5 {100 * self.scores.top5:.2f}, "
        text += f"loss {self.loss:.4f}, {counted(self.num_images, 'image')}"
        text += f", {len(self.unreadable)} not read" if self.unreadable else ""
        return text + (f"; NaN or infinite scores in {self.not_finite}" if self.not_finite else "")

    def headline(self) -> dict[str, float]:
        """The scores for status.json."""
        return {"top1": self.scores.top1, "top5": self.scores.top5}

    def as_dict(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """The content of results.json; a class without images has recall None."""
        recall = self.scores.recall.tolist()
        return {
            "top1": self.scores.top1,
            "top5": self.scores.top5,
            "loss": self.loss,
            "images": self.num_images,
            "not_finite": self.not_finite,
            "seconds": self.seconds,
            "recall": {
                name: None if value != value else value
                for name, value in zip(class_names, recall, strict=True)
            },
            "unreadable": self.unreadable,
        }


def evaluate_classifier(
    net: nn.Module,
    loader: Iterable[Batch],
    num_classes: int,
    compute: Compute,
    *,
    channels_last: bool = False,
    ranks: Ranks = ALONE,
    watch: Watch = UNWATCHED,
    named: set[str] | None = None,
) -> ClassSummary:
    """Score every image of `loader` once; `net` is in eval mode.

    Files that cannot be read are logged unless `named` has them, listed and left out of the
    scores; UserError if none is left.
    """
    start, device = time.monotonic(), compute.device
    counts = TopCounts(num_classes, device)
    unreadable = UnreadableLog(watch.log, "left out", named)
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    not_finite = torch.zeros((), dtype=torch.int64, device=device)
    criterion = SoftTargetCrossEntropy()
    total = len(loader) if isinstance(loader, Sized) else None
    with torch.inference_mode():
        for number, batch in enumerate(loader, 1):
            unreadable.note(batch)
            if batch.names:
                batch = batch.to(device)
                logits = _logits(net, batch.images, compute, channels_last)
                assert batch.labels is not None, "images without classes"
                loss_sum += criterion(logits, batch.labels).double() * len(batch.names)
                counts.update(logits, batch.labels)
                not_finite += (~torch.isfinite(logits).all(dim=1)).sum()
            watch.progress(number, total)
    summed = ranks.add(counts.counts)
    images = int(summed[:, 0].sum())
    own = [f"{name}: {reason}" for name, reason in unreadable.lines.items()]
    lines = sorted(line for part in ranks.gather(own) for line in part)
    refuse_unread(images, lines)
    return ClassSummary(
        scores=ClassScores.of(summed),
        loss=float(ranks.add(loss_sum)) / max(images, 1),
        num_images=images,
        seconds=time.monotonic() - start,
        unreadable=lines,
        not_finite=int(ranks.add(not_finite)),
    )


def _logits(net: nn.Module, images: Tensor, compute: Compute, channels_last: bool) -> Tensor:
    """Scores (B, K) float32."""
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    with compute.autocast():
        outputs: dict[str, Tensor] = net(images)
    return outputs[PRED].float()
