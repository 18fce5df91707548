# SPDX-License-Identifier: Apache-2.0
"""Evaluation: loader -> scores, loss and one Result per image for the sinks.

    summary = evaluate(whole(net), loader, spec, device, sinks=[DumpSink(...)])
    print(summary.scores.table())

Metrics come from the class ids; score maps are freed before the next batch is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from datasets.loader import Batch
from datasets.spec import DatasetSpec
from engine.attempt import predict_batch, why
from engine.predict import Infer
from engine.result import EvalSummary, Gather, Result, Sink, refuse_unread
from metrics.bands import BANDS, band_confusion, band_scores
from metrics.confusion import Scores
from metrics.distance_crop import distance_window
from network.outputs import GATE_PREFIX, PRED
from runtime.errors import UserError
from runtime.files import is_fatal
from runtime.names import OutsideError
from transforms.normalize import denormalize

ValLoss = Callable[[Tensor, Tensor], Tensor]
Log = Callable[[str], None]

__all__ = ["EvalSummary", "evaluate"]


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

    def note(self, what: str, name: str, reason: str, log: Log | None) -> None:
        """List an image that is `what`: not read, or not predicted."""
        line = f"{name}: {reason}"
        self.unreadable.append(line)
        if log is not None:
            log(f"{what}: {line}")


def identity_reduce(tensor: Tensor) -> Tensor:
    """The sum over the ranks of a single process."""
    return tensor


def gather_alone(value: Any) -> list[Any]:
    """The gathered values of a single process."""
    return [value]


def evaluate(
    infer: Infer,
    loader: Iterable[Batch],
    spec: DatasetSpec,
    device: torch.device,
    *,
    sinks: Sequence[Sink] = (),
    val_loss: ValLoss | None = None,
    metrics: bool = True,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    all_reduce: Callable[[Tensor], Tensor] = identity_reduce,
    gather: Gather = gather_alone,
    crop: tuple[int, int] | None = None,
    skip_refused: bool = False,
    rank: int = 0,
    world: int = 1,
    log: Log | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> EvalSummary:
    """Evaluate every image of `loader` once; add each to the sinks and close them.

    `loader` gives this rank's batches; images without a label are predicted but not scored.
    `val_loss(scores, labels)` sees float32 (B, K, H, W) and int64 (B, H, W) outside `autocast`.
    `all_reduce` sums a tensor over the ranks, `gather` collects objects: the loop is the same on
    one rank and on many, and collective on many. A file that cannot be read is logged and listed,
    UserError if none can be read. An image that a sink cannot store is logged and listed too,
    unless the disk is full, and so is, with `skip_refused`, one that the network refuses with a
    UserError, for instance as too small, or that does not fit into memory. `progress(batches done,
    batches or None)` follows each batch. With `metrics=False` a sink is not given what it already
    has, and images that all sinks have do not go through the network; with metrics all are stored
    again. `crop` (H, W): only the `distance_window` is scored; loss and sinks get the whole image.
    """
    start = time.monotonic()
    counts = torch.zeros(len(BANDS), spec.num_classes, spec.num_classes, dtype=torch.int64)
    tally = _Tally(bands=counts.to(device))
    total = len(loader) if isinstance(loader, Sized) else None
    with torch.inference_mode():
        for number, batch in enumerate(loader, 1):
            for name, reason in batch.failed:
                tally.note("not read", name, reason, log)
            if not metrics:
                batch = _pending(batch, sinks, tally)
            count = partial(_count, batch, spec, tally, sinks, val_loss, metrics, crop, log)
            refused = predict_batch(infer, batch, device, autocast, count)
            for name, reason in refused:
                if not skip_refused:
                    raise UserError(reason)
                tally.note("not predicted", name, reason, log)
            if progress is not None:
                progress(number, total)
    for sink in sinks:
        for name, error in sink.close(rank, world, gather) or ():
            tally.note("not written", name, why(error), log)
    return _summarise(tally, spec, device, metrics, all_reduce, gather, start)


def _store(result: Result, sinks: Sequence[Sink], tally: _Tally, log: Log | None) -> None:
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
    return replace(
        batch,
        images=batch.images[keep],
        labels=None if batch.labels is None else batch.labels[keep],
        names=[batch.names[position] for position in keep],
        indices=[batch.indices[position] for position in keep],
        rows=None if batch.rows is None else batch.rows[keep],
        sizes=[batch.sizes[position] for position in keep],
        extras={name: values[keep] for name, values in batch.extras.items()},
        originals=None if batch.originals is None else batch.originals[keep],
        files=[batch.files[position] for position in keep] if batch.files else [],
    )


def _picture(batch: Batch, position: int) -> npt.NDArray[np.uint8]:
    """One image as uint8 (H, W, 3), of the size of its prediction."""
    if batch.originals is not None:
        return batch.originals[position].numpy()
    return denormalize(batch.images[position])


def _count(
    batch: Batch,
    spec: DatasetSpec,
    tally: _Tally,
    sinks: Sequence[Sink],
    val_loss: ValLoss | None,
    metrics: bool,
    crop: tuple[int, int] | None,
    log: Log | None,
    outputs: dict[str, Tensor],
) -> None:
    """Loss, confusion and results of one batch."""
    scores = outputs.pop(PRED)
    top, classes = scores.max(1)
    _note_not_finite(top, batch, tally, log)
    pred = classes.to(torch.uint8)
    labels = batch.labels.to(scores.device) if batch.labels is not None and metrics else None
    if labels is not None and val_loss is not None:
        _add_loss(scores, labels, spec.num_classes, val_loss, tally)
    takers = [
        [sink for sink in sinks if sink.wants(index) and (metrics or not sink.done(name))]
        for name, index in zip(batch.names, batch.indices, strict=True)
    ]
    needs = frozenset[str]().union(*(sink.needs for taken in takers for sink in taken))
    prob = largest_probability(scores, top) if "prob" in needs else None
    del scores, top
    tally.images += len(batch.names)
    for position, taken in enumerate(takers):
        scored = _cropped(pred, labels, crop)
        own = _own_confusion(*scored, position, tally, spec.ignore_label)
        if not taken:
            continue
        result = Result(
            name=batch.names[position],
            index=batch.indices[position],
            image=_picture(batch, position) if "image" in needs else None,
            label=_to_uint8(None if batch.labels is None else batch.labels[position]),
            pred=pred[position].cpu().numpy(),
            prob=None if prob is None else prob[position].cpu().numpy(),
            assets=_pictures(outputs, position) if "assets" in needs else {},
            gates=_gates(outputs, position) if "gates" in needs else {},
            confusion=None if own is None else own.cpu().numpy(),
        )
        _store(result, taken, tally, log)


def _note_not_finite(top: Tensor, batch: Batch, tally: _Tally, log: Log | None) -> None:
    """Count images whose largest scores (B, H, W) are NaN or infinite; log a line for the first."""
    broken = (~torch.isfinite(top).flatten(1).all(dim=1)).tolist()
    if any(broken) and not tally.not_finite and log is not None:
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


def largest_probability(scores: Tensor, top: Tensor) -> Tensor:
    """Largest softmax value per pixel: (B, K, H, W) and its maximum (B, H, W) -> (B, H, W).

    Summed class by class: a softmax would make a second score map.
    """
    total = torch.zeros_like(top)
    for number in range(scores.shape[1]):
        total += (scores[:, number] - top).exp_()
    return total.reciprocal_()


def _to_uint8(label: Tensor | None) -> npt.NDArray[np.uint8] | None:
    return None if label is None else label.to(torch.uint8).cpu().numpy()


def _pictures(outputs: dict[str, Tensor], position: int) -> dict[str, npt.NDArray[Any]]:
    """The extra maps of one image: attention as float32 (h, w), class ids as uint8 (h, w)."""
    pictures = {}
    for key, value in outputs.items():
        if key.startswith(GATE_PREFIX):
            continue
        own = value[position]
        is_ids = own.dtype == torch.uint8
        pictures[key] = (own if is_ids else own.float().squeeze(0)).cpu().numpy()
    return pictures


def _gates(outputs: dict[str, Tensor], position: int) -> dict[str, npt.NDArray[np.float32]]:
    """The height gates of one image, float32 (C, h)."""
    found = {key: value for key, value in outputs.items() if key.startswith(GATE_PREFIX)}
    return {key: value[position].float().cpu().numpy() for key, value in found.items()}


def _summarise(
    tally: _Tally,
    spec: DatasetSpec,
    device: torch.device,
    metrics: bool,
    all_reduce: Callable[[Tensor], Tensor],
    gather: Gather,
    start: float,
) -> EvalSummary:
    """Sum over the ranks; every rank gets the same summary."""
    bands = all_reduce(tally.bands)
    counts = [tally.pixels, tally.labelled, tally.images, tally.skipped, tally.not_finite]
    reduced: list[int] = all_reduce(torch.tensor(counts, device=device)).tolist()
    pixels, labelled, images, skipped, not_finite = reduced
    loss_sum = float(all_reduce(torch.tensor(tally.loss_sum, dtype=torch.float64, device=device)))
    unreadable = sorted(line for lines in gather(tally.unreadable) for line in lines)
    refuse_unread(images + skipped, unreadable)
    scored = metrics and labelled
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
