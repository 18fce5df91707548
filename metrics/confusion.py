# SPDX-License-Identifier: Apache-2.0
"""Confusion matrix in exact integers, and the scores that follow from it.

H[g, p] counts pixels of ground truth g predicted as p; ignored labels do not count.
Per class k: TP = H[k, k]; FP = the rest of column k; FN = the rest of row k.

aAcc, mAcc, mIoU and mDice of the mmsegmentation tables are `acc`, `acc_cls`, `mean_iu` and
`mean_dice`: NaN is left out of every mean, and a class that is predicted but never labelled has
IoU and Dice 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metrics.mean import known_mean
from runtime.limits import counted

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

HIST_PIXELS = 2**24  # cv2 counts in float32, which is exact up to here
IGNORED = 255


class ConfusionMatrix:
    """Sum of the confusion matrices of images, int64 (K, K) on `device`."""

    def __init__(
        self,
        num_classes: int,
        device: torch.device | str = "cpu",
        ignore_label: int | None = None,
    ) -> None:
        self.num_classes, self.ignore_label = num_classes, ignore_label
        self.matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)

    def update(self, pred: Tensor, label: Tensor) -> Tensor:
        """Count one image or batch and return its own matrix; see `confusion_matrix`."""
        matrix = confusion_matrix(pred, label, self.num_classes, self.ignore_label)
        self.add(matrix)
        return matrix

    def add(self, matrix: Tensor) -> None:
        """Add a matrix counted elsewhere: another rank, an earlier part of the run."""
        self.matrix += matrix.to(self.matrix.device)


def confusion_matrix(
    pred: Tensor, label: Tensor, num_classes: int, ignore_label: int | None = None
) -> Tensor:
    """Confusion matrix (K, K) int64 of class maps of equal shape and any integer type.

    Stays on the device of `pred`. Labels outside 0..K-1 are ignored; with `ignore_label` only that
    one is, and others are an error. Raises ValueError for these, for different shapes, and for a
    prediction outside 0..K-1.
    """
    if pred.shape != label.shape:
        raise ValueError(f"prediction {tuple(pred.shape)} and label {tuple(label.shape)} differ")
    if pred.device.type == "cpu" and num_classes <= IGNORED:
        matrix = _by_histogram(pred, label, num_classes)
    else:
        matrix = _by_bincount(pred, label.to(pred.device), num_classes)
    if ignore_label is not None:
        _check_labels(label, int(matrix.sum()), num_classes, ignore_label)
    return matrix


def _check_labels(label: Tensor, known: int, num_classes: int, ignore_label: int) -> None:
    """Raise ValueError unless all but `known` pixels are `ignore_label`."""
    missing = label.numel() - known
    if not missing or int((label == ignore_label).sum()) == missing:
        return
    strange = (label != ignore_label) & ((label < 0) | (label >= num_classes))
    value, count = int(label[strange][0]), int(strange.sum())
    raise ValueError(
        f"a label holds the value {value} ({counted(count, 'pixel')} like it), but classes are "
        f"0..{num_classes - 1} and {ignore_label} is ignored"
    )


def _by_histogram(pred: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """cv2's two-dimensional histogram: several times the speed of a masked int64 bincount."""
    pred8, label8 = _flat_uint8(pred), _flat_uint8(label)
    if pred8.size and int(pred8.max()) >= num_classes:
        raise ValueError(f"a prediction lies outside 0..{num_classes - 1}: {int(pred8.max())}")
    total = np.zeros((num_classes, num_classes), dtype=np.int64)
    bins, limits = [num_classes, num_classes], [0, num_classes, 0, num_classes]
    for start in range(0, pred8.size, HIST_PIXELS):
        part = slice(start, start + HIST_PIXELS)
        for maps in _interleaved(label8[part], pred8[part]):
            total += cv2.calcHist(maps, [0, 1], None, bins, limits).astype(np.int64)
    return torch.from_numpy(total)


def _flat_uint8(values: Tensor) -> Bytes:
    """Values as a flat uint8 array; what does not fit in 0..254 becomes 255."""
    if values.dtype != torch.uint8:
        if values.numel():
            low, high = values.aminmax()
            if int(low) < 0 or int(high) > IGNORED:
                values = values.masked_fill((values < 0) | (values > IGNORED), IGNORED)
        values = values.to(torch.uint8)
    flat: Bytes = values.contiguous().view(-1).numpy()
    return flat


def _interleaved(label: Bytes, pred: Bytes) -> Iterator[list[Bytes]]:
    """Both arrays as rows in which neighbours come from four distant places, then the rest.

    Neighbouring pixels mostly have one class, and increments of one counter wait for each other;
    the order does not matter for a histogram.
    """
    quarter = len(label) // 4
    if quarter:
        parts = [slice(i * quarter, (i + 1) * quarter) for i in range(4)]
        merged = [cv2.merge([x[part] for part in parts]) for x in (label, pred)]
        yield [x.reshape(1, -1).astype(np.uint8, copy=False) for x in merged]
    if len(label) % 4:
        yield [label[4 * quarter :].reshape(1, -1), pred[4 * quarter :].reshape(1, -1)]


def _by_bincount(pred: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Any device, any class count."""
    if bool(((pred < 0) | (pred >= num_classes)).any()):
        raise ValueError(f"a prediction lies outside 0..{num_classes - 1}")
    cells = num_classes * num_classes
    valid = (label >= 0) & (label < num_classes)
    index = torch.where(valid, label.long() * num_classes + pred.long(), cells)
    counts = torch.bincount(index.flatten(), minlength=cells + 1)[:cells]
    return counts.view(num_classes, num_classes)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Ratios of a confusion matrix; make it with `Scores.of`.

    Arrays have K entries in 0..1 (`fp_over_tp`, `fn_over_tp`: 0 and up) and NaN where the
    denominator is 0. `absent` marks classes in neither ground truth nor predictions; means
    leave NaN out, and are NaN themselves if nothing was labelled.
    """

    matrix: NDArray[np.int64]
    class_names: tuple[str, ...]
    iou: Floats
    dice: Floats
    precision: Floats
    recall: Floats
    fp_over_tp: Floats
    fn_over_tp: Floats
    absent: NDArray[np.bool_]
    mean_iu: float
    mean_dice: float
    acc: float
    acc_cls: float
    fwavacc: float

    @classmethod
    def of(cls, matrix: Tensor | NDArray[np.int64], class_names: Sequence[str]) -> Scores:
        """Scores of a matrix H[gt, pred] (K, K) with K names."""
        hist = matrix.cpu().numpy() if isinstance(matrix, Tensor) else np.asarray(matrix)
        if hist.shape != (len(class_names), len(class_names)):
            raise ValueError(f"{len(class_names)} class names for a matrix {hist.shape}")
        diag, rows, cols = hist.diagonal(), hist.sum(1), hist.sum(0)
        iou, dice = _ratio(diag, rows + cols - diag), _ratio(2 * diag, rows + cols)
        recall, total = _ratio(diag, rows), int(hist.sum())
        seen = rows > 0
        acc = float(diag.sum() / total) if total else math.nan
        return cls(
            matrix=hist.astype(np.int64),
            class_names=tuple(class_names),
            iou=iou,
            dice=dice,
            precision=_ratio(diag, cols),
            recall=recall,
            fp_over_tp=_ratio(cols - diag, diag),
            fn_over_tp=_ratio(rows - diag, diag),
            absent=(rows + cols) == 0,
            mean_iu=known_mean(iou),
            mean_dice=known_mean(dice),
            acc=acc,
            acc_cls=known_mean(recall),
            fwavacc=float((rows[seen] / total * iou[seen]).sum()) if total else math.nan,
        )

    def table(self) -> str:
        """One line per class: IoU and Dice in %, TP in % of all pixels, FP and FN divided by TP."""
        width = max([len("label"), *map(len, self.class_names)])
        head = [
            "Id",
            "label".ljust(width),
            "iU_1.0",
            "TP",
            "FP",
            "FN",
            "Precision",
            "Recall",
            "Dice",
        ]
        lines = [_row(head)]
        total = max(int(self.matrix.sum()), 1)
        share = 100 * self.matrix.diagonal() / total
        for k, name in enumerate(self.class_names):
            cells = [str(k), name.ljust(width)]
            if self.absent[k]:
                cells += ["absent", *"------"]
            else:
                columns = (self.fp_over_tp, self.fn_over_tp, self.precision, self.recall)
                values = [100 * self.iou[k], share[k], *(column[k] for column in columns)]
                values.append(100 * self.dice[k])
                cells += ["-" if math.isnan(x) else f"{x:.2f}" for x in values]
            lines.append(_row(cells))
        return "\n".join(lines)

    def reported(self) -> dict[str, float]:
        """mIoU, mAcc, aAcc and mDice as published tables have them: two decimals of a percent.

        Fractions, i.e. the rounded percentages divided by 100.
        """
        values = {
            "mIoU": self.mean_iu,
            "mAcc": self.acc_cls,
            "aAcc": self.acc,
            "mDice": self.mean_dice,
        }
        return {name: float(np.round(100 * value, 2)) / 100 for name, value in values.items()}

    def summary(self) -> str:
        """`reported` on one line, in percent."""
        values = self.reported().items()
        return "Summary: " + "  ".join(f"{name} {100 * value:.2f}" for name, value in values)

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; None stands for NaN."""
        arrays = ("iou", "dice", "precision", "recall", "fp_over_tp", "fn_over_tp")
        scalars = ("mean_iu", "mean_dice", "acc", "acc_cls", "fwavacc")
        return {
            "class_names": list(self.class_names),
            **{name: _plain(getattr(self, name)) for name in scalars},
            **{name: [_plain(x) for x in getattr(self, name)] for name in arrays},
            "absent": [n for n, gone in zip(self.class_names, self.absent, strict=True) if gone],
            "confusion": self.matrix.tolist(),
        }


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return ratio


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _row(cells: Sequence[str]) -> str:
    first, name, *rest = cells
    return f"{first:>3}  {name}  " + "  ".join(f"{cell:>9}" for cell in rest)
