# SPDX-License-Identifier: Apache-2.0
"""Evaluation: loader -> scores, loss and one ImageResult per image for the sinks.

    summary = evaluate(whole(net), loader, spec, Compute(device=device), sinks=[DumpSink(...)])
    print(summary.scores.table())

Metrics come from the class ids; score maps are freed before the next batch is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from datasets.batch import Batch
from datasets.spec import DatasetSpec
from engine.compute import UNWATCHED, Compute, Watch
from engine.decide import Decided, Keep
from engine.large import Large
from engine.predict import Infer
from engine.predict_batch import Part, predict_batch, why
from engine.windows import Box
from metrics.bands import BANDS, band_confusion, band_scores
from metrics.confusion import Scores
from metrics.distance_crop import distance_window
from metrics.result import EvalSummary, ImageResult, Sink, refuse_unread
from network.outputs import GATE_PREFIX
from runtime.distributed import ALONE, Ranks
from runtime.errors import UserError
from runtime.files import is_fatal
from runtime.names import OutsideError
from runtime.progress import Log

ValLoss = Callable[[Tensor, Tensor], Tensor]

__all__ = ["EvalRules", "EvalSummary", "evaluate"]


@dataclass(kw_only=True)
class _Tally:
    """Running sums of one rank."""

    bands: Tensor  # (4, K, K) confusion of the height bands
    loss_sum: float = 0.0
    pixels: int = 0
    labelled: int = 0
    images: int = 0
    skipped: int = 0
    not_finite: int = 0
    unreadable: list[str] = field(default_factory=list)

    def note(self, what: str, name: str, reason: str, log: Log) -> None:
        """List an image that is `what`: not read, or not predicted."""
        line = f"{name}: {reason}"
        self.unreadable.append(line)
        log(f"{what}: {line}")


@dataclass(frozen=True, kw_only=True)
class EvalRules:
    """What counts in an image, and what happens to one that cannot be predicted.

    With `metrics` images that have a label are scored, and `val_loss(scores, labels)` sees float32
    (B, K, H, W) and int64 (B, H, W). `crop` (H, W): only the `distance_window` is scored; loss and
    sinks get the whole image. With `skip_refused` an image that the network refuses with a
    UserError, for instance as too small, or that does not fit into memory, is logged and listed;
    otherwise it is an error. `large`: what happens to batches of images as they were read; without
    it they are normalised and pass whole. top_scores: of how many classes sinks get the scores, 0
    for all. With `refuse_none` it is an error if no image at all could be predicted.
    """

    metrics: bool = True
    val_loss: ValLoss | None = None
    crop: tuple[int, int] | None = None
    skip_refused: bool = False
    large: Large | None = None
    top_scores: int = 0
    refuse_none: bool = True


DEFAULT_RULES = EvalRules()


def evaluate(
    infer: Infer,
    loader: Iterable[Batch],
    spec: DatasetSpec,
    compute: Compute,
    *,
    sinks: Sequence[Sink] = (),
    rules: EvalRules = DEFAULT_RULES,
    ranks: Ranks = ALONE,
    watch: Watch = UNWATCHED,
) -> EvalSummary:
    """Evaluate every image of `loader` once; add each to the sinks and close them.

    `loader` gives this rank's batches; images without a label are predicted but not scored. The
    loop is the same on one rank and on many, where it is collective. A file that cannot be read is
    logged and listed, UserError if none can be read; an image that a sink cannot store is logged
    and listed too, unless the disk is full. Without `rules.metrics` a sink is not given what it
    already has, and images that all sinks have do not go through the network; with metrics all are
    stored anew.
    """
    start = time.monotonic()
    counts = torch.zeros(len(BANDS), spec.num_classes, spec.num_classes, dtype=torch.int64)
    tally, log = _Tally(bands=counts.to(compute.device)), watch.log
    total = len(loader) if isinstance(loader, Sized) else None
    with torch.inference_mode():
        for number, batch in enumerate(loader, 1):
            for name, reason in batch.failed:
                tally.note("not read", name, reason, log)
            if not rules.metrics:
                batch = _pending(batch, sinks, tally)
            count = partial(_count, batch, spec, tally, sinks, rules, log)
            refused = predict_batch(infer, batch, compute, count, rules.large)
            for name, reason in refused:
                if not rules.skip_refused:
                    raise UserError(reason)
                tally.note("not predicted", name, reason, log)
            watch.progress(number, total)
    for sink in sinks:
        for name, error in sink.close(ranks.rank, ranks.size, ranks.gather) or ():
            tally.note("not written", name, why(error), log)
    return _summarise(tally, spec, rules, ranks, start)


def _store(result: ImageResult, sinks: Sequence[Sink], tally: _Tally, log: Log) -> None:
    """Give `result` to `sinks`; one that cannot write it costs a line, the others still get it."""
    for sink in sinks:
        try:
            sink.add(result)
        except (OSError, UnicodeError, MemoryError, OutsideError) as error:
            if is_fatal(error):
                raise
            tally.note("not written", result.name, why(error), log)


def _pending(batch: Batch, sinks: Sequence[Sink], tally: _Tally) -> Batch:
    """The images of `batch` that at least one sink still has to store."""
    keep = [
        position
        for position, (name, index) in enumerate(zip(batch.names, batch.indices, strict=True))
        if any(sink.wants(index) and not sink.done(name) for sink in sinks)
    ]
    tally.skipped += len(batch.names) - len(keep)
    if len(keep) == len(batch.names):
        return batch
    return batch.keep(keep)


def _count(
    batch: Batch,
    spec: DatasetSpec,
    tally: _Tally,
    sinks: Sequence[Sink],
    rules: EvalRules,
    log: Log,
    parts: Iterable[Part],
    outputs: dict[str, Tensor],
) -> None:
    """Loss, confusion and results of one batch; `outputs` are there once `parts` are through."""
    metrics = rules.metrics
    takers = [
        [sink for sink in sinks if sink.wants(index) and (metrics or not sink.done(name))]
        for name, index in zip(batch.names, batch.indices, strict=True)
    ]
    needs = frozenset[str]().union(*(sink.needs for taken in takers for sink in taken))
    keep = Keep(
        prob="prob" in needs,
        confidence="confidence" in needs,
        scores="scores" in needs,
        top=rules.top_scores,
    )
    decided = Decided(batch.sizes[0], keep)
    labels = _decide(decided, batch, parts, spec, tally, rules)
    _note_not_finite(decided.finite, batch, tally, log)
    tally.images += len(batch.names)
    for position, taken in enumerate(takers):
        scored = _cropped(decided.pred, labels, rules.crop)
        matrix = _own_confusion(*scored, position, tally, spec.ignore_label)
        if not taken:
            continue
        result = ImageResult(
            name=batch.names[position],
            index=batch.indices[position],
            image=batch.shown(position) if "image" in needs else None,
            label=_to_uint8(None if batch.labels is None else batch.labels[position]),
            pred=decided.pred[position].cpu().numpy(),
            prob=_own(decided.prob, position),
            confidence=decided.confidence(position),
            assets=_extra_maps(outputs, position) if "assets" in needs else {},
            gates=_gates(outputs, position) if "gates" in needs else {},
            confusion=None if matrix is None else matrix.cpu().numpy(),
            scores=_own(decided.scores, position),
            score_ids=_own(decided.score_ids, position),
        )
        _store(result, taken, tally, log)


def _decide(
    decided: Decided,
    batch: Batch,
    parts: Iterable[Part],
    spec: DatasetSpec,
    tally: _Tally,
    rules: EvalRules,
) -> Tensor | None:
    """Hand every part to `decided`, and its loss to `tally`; the labels where they are scored."""
    labels = None
    for box, scores in parts:
        if rules.metrics and batch.labels is not None:
            labels = batch.labels.to(scores.device) if labels is None else labels
            if rules.val_loss is not None:
                own = _part(labels, box).long()
                _add_loss(scores, own, spec.num_classes, rules.val_loss, tally)
        decided.take(scores, box)
        del scores
    return labels


def _own(values: Tensor | None, position: int) -> npt.NDArray[Any] | None:
    """Those of one image."""
    return None if values is None else values[position].cpu().numpy()


def _part(labels: Tensor, box: Box | None) -> Tensor:
    """The labels (B, h, w) of a part of the image."""
    return labels if box is None else labels[:, box.top : box.bottom, box.left : box.right]


def _note_not_finite(finite: Tensor, batch: Batch, tally: _Tally, log: Log) -> None:
    """Count images whose largest scores are NaN or infinite, not `finite` (B,); log the first."""
    broken = (~finite).tolist()
    if any(broken) and not tally.not_finite:
        name = batch.names[broken.index(True)]
        log(
            f"warning: {name}: the scores of the network are NaN or infinite, its classes mean "
            "nothing; other weights, or --precision fp32, may help"
        )
    tally.not_finite += sum(broken)


def _add_loss(
    scores: Tensor, labels: Tensor, num_classes: int, val_loss: ValLoss, tally: _Tally
) -> None:
    """Weighted by pixels, so that the mean does not depend on how images were batched."""
    pixels = int(((labels >= 0) & (labels < num_classes)).sum())
    if pixels:
        tally.loss_sum += float(val_loss(scores, labels)) * pixels
        tally.pixels += pixels


def _cropped(
    pred: Tensor, labels: Tensor | None, crop: tuple[int, int] | None
) -> tuple[Tensor, Tensor | None]:
    """The part (B, h, w) of predictions and labels that is scored."""
    if crop is None or labels is None:
        return pred, labels
    rows, columns = distance_window(pred.shape[1], pred.shape[2], crop)
    return pred[:, rows, columns], labels[:, rows, columns]


def _own_confusion(
    pred: Tensor, labels: Tensor | None, position: int, tally: _Tally, ignore_label: int
) -> Tensor | None:
    """The matrix of one image, added to the sum; None when there is no label."""
    if labels is None:
        return None
    tally.labelled += 1
    # labels come from bytes, and counting bytes takes half the time
    label = labels[position].to(torch.uint8)
    bands = band_confusion(pred[position], label, tally.bands.shape[1], ignore_label)
    tally.bands += bands.to(tally.bands.device)
    return bands.sum(0)


def _to_uint8(label: Tensor | None) -> npt.NDArray[np.uint8] | None:
    return None if label is None else label.to(torch.uint8).cpu().numpy()


def _extra_maps(outputs: dict[str, Tensor], position: int) -> dict[str, npt.NDArray[Any]]:
    """The extra maps of one image: attention as float32 (h, w), class ids as uint8 (h, w)."""
    maps = {}
    for key, value in outputs.items():
        if key.startswith(GATE_PREFIX):
            continue
        own = value[position]
        is_ids = own.dtype == torch.uint8
        maps[key] = (own if is_ids else own.float().squeeze(0)).cpu().numpy()
    return maps


def _gates(outputs: dict[str, Tensor], position: int) -> dict[str, npt.NDArray[np.float32]]:
    """The height gates of one image, float32 (C, h)."""
    found = {key: value for key, value in outputs.items() if key.startswith(GATE_PREFIX)}
    return {key: value[position].float().cpu().numpy() for key, value in found.items()}


def _summarise(
    tally: _Tally,
    spec: DatasetSpec,
    rules: EvalRules,
    ranks: Ranks,
    start: float,
) -> EvalSummary:
    """Sum over the ranks; every rank gets the same summary."""
    bands = ranks.add(tally.bands)
    counts = [tally.pixels, tally.labelled, tally.images, tally.skipped, tally.not_finite]
    reduced: list[int] = ranks.add(torch.tensor(counts, device=bands.device)).tolist()
    pixels, labelled, images, skipped, not_finite = reduced
    loss = torch.tensor(tally.loss_sum, dtype=torch.float64, device=bands.device)
    loss_sum = float(ranks.add(loss))
    unreadable = sorted(line for lines in ranks.gather(tally.unreadable) for line in lines)
    if rules.refuse_none:
        refuse_unread(images + skipped, unreadable)
    scored = rules.metrics and labelled
    return EvalSummary(
        scores=Scores.of(bands.sum(0), spec.class_names) if scored else None,
        bands=band_scores(bands, spec.class_names) if scored else None,
        loss=loss_sum / pixels if pixels else None,
        num_images=images,
        skipped=skipped,
        seconds=time.monotonic() - start,
        unreadable=unreadable,
        not_finite=not_finite,
    )
