# SPDX-License-Identifier: Apache-2.0
"""results.json: the scores of an evaluation, how they were obtained, and over what.

    {"format": "hiseg-results-1",
     "metrics": {"mean_iu", "mean_dice", "acc", "acc_cls", "fwavacc", "loss", "boundary_f",
                 "modified_f"},                                          0..1, loss in nats
     "reported": {"mIoU", "mAcc", "aAcc", "mDice"},    0..1, percentages rounded to two decimals
     "bands": {"upper": {"mean_iu", "mean_dice", "acc", "acc_cls", "fwavacc", "iou": [...]}, "mid1",
               "mid2", "lower"},                             quarters of the height, from the top
     "classes": [{"id", "name", "iou", "dice", "precision", "recall", "fp_over_tp", "fn_over_tp",
                  "label_share", "boundary_f", "absent"}, ...],          shares of scored pixels
     "boundary": {"thresholds", "mean_f": one each, "sums": F, precision and recall of the classes
                  at each, "counted": by class, "images"},     sums of parts of a set add up
     "modified": {...},                                        the same of any two classes
     "confusion": [[...], ...],                                          rows ground truth
     "protocol": {...}, "counts": {"images", "skipped", "unreadable", "not_finite"},
     "unreadable": [...], "seconds": ...}

A ratio without a denominator, everything of an evaluation without labels, boundary scores
without --eval_f1, and modified ones without --mod_f1 are null. `boundary_f` is that of the first
tolerance.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.spec import DatasetSpec
from metrics.boundary_scores import BoundaryScores
from metrics.confusion import Scores
from metrics.result import EvalSummary
from runtime.files import write_atomic

FORMAT = "hiseg-results-1"
METRICS = ("mean_iu", "mean_dice", "acc", "acc_cls", "fwavacc")
RATIOS = ("iou", "dice", "precision", "recall", "fp_over_tp", "fn_over_tp")


def make_results(
    summary: EvalSummary,
    spec: DatasetSpec,
    protocol: Mapping[str, Any],
    outlines: Sequence[BoundaryScores] = (),
) -> dict[str, Any]:
    """The content of results.json in plain types; also what the report page shows.

    `outlines`: the boundary scores of the classes, and modified ones, where there are any.
    """
    boundary = next((each for each in outlines if not each.modified), None)
    modified = next((each for each in outlines if each.modified), None)
    scores = summary.scores
    values = {name: getattr(scores, name) for name in METRICS} if scores else {}
    return {
        "format": FORMAT,
        "dataset": spec.name,
        "metrics": {
            **{name: plain(values.get(name)) for name in METRICS},
            "loss": plain(summary.loss),
            "boundary_f": plain(boundary.mean_f()) if boundary else None,
            "modified_f": plain(modified.mean_f()) if modified else None,
        },
        "bands": _bands(summary),
        "reported": {k: plain(v) for k, v in scores.reported().items()} if scores else None,
        "classes": _classes(scores, boundary) if scores else None,
        "boundary": _totals(boundary) if boundary else None,
        "modified": _totals(modified) if modified else None,
        "confusion": scores.matrix.tolist() if scores else None,
        "protocol": {key: plain(value) for key, value in protocol.items()},
        "counts": {
            "images": summary.num_images,
            "skipped": summary.skipped,
            "unreadable": len(summary.unreadable),
            "not_finite": summary.not_finite,
        },
        "unreadable": list(summary.unreadable),
        "seconds": round(summary.seconds, 3),
    }


def write_results(
    path: Path,
    summary: EvalSummary,
    spec: DatasetSpec,
    protocol: Mapping[str, Any],
    outlines: Sequence[BoundaryScores] = (),
) -> dict[str, Any]:
    """Write results.json whole or not at all; returns its content."""
    results = make_results(summary, spec, protocol, outlines)
    text = json.dumps(results, indent=1, allow_nan=False)
    write_atomic(Path(path), (text + "\n").encode())
    return results


def _totals(outlines: BoundaryScores) -> dict[str, Any]:
    values = {
        "thresholds": outlines.thresholds,
        "mean_f": [outlines.mean_f(number) for number in range(len(outlines.thresholds))],
        "sums": outlines.sums,
        "counted": outlines.counted,
        "images": outlines.num_images,
    }
    return {key: plain(value) for key, value in values.items()}


def _bands(summary: EvalSummary) -> dict[str, Any] | None:
    if summary.bands is None:
        return None
    return {
        key: {**{name: plain(getattr(own, name)) for name in METRICS}, "iou": plain(own.iou)}
        for key, own in summary.bands.items()
    }


def _classes(scores: Scores, boundary: BoundaryScores | None) -> list[dict[str, Any]]:
    outlines = boundary.f_score().tolist() if boundary else [None] * len(scores.class_names)
    total = max(int(scores.matrix.sum()), 1)
    return [
        {
            "id": number,
            "name": name,
            **{key: plain(getattr(scores, key)[number]) for key in RATIOS},
            "label_share": float(scores.matrix[number].sum() / total),
            "boundary_f": plain(outlines[number]),
            "absent": bool(scores.absent[number]),
        }
        for number, name in enumerate(scores.class_names)
    ]


def plain(value: Any) -> Any:
    """`value` in types of JSON: NaN and infinity become None, arrays and tuples lists."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
