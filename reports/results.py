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
tolerance. Any other metric stands beside these, where it was measured: its values in "metrics" and
in each class, its totals under its name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.spec import DatasetSpec
from metrics.confusion import Scores
from metrics.result import EvalSummary, Measured
from runtime.files import write_atomic

FORMAT = "hiseg-results-1"
METRICS = ("mean_iu", "mean_dice", "acc", "acc_cls", "fwavacc")
PUBLISHED = ("boundary", "modified")  # there even where they were not measured, as null
OF_CLASSES = "boundary_f"  # and this in every class
RATIOS = ("iou", "dice", "precision", "recall", "fp_over_tp", "fn_over_tp")


def make_results(
    summary: EvalSummary,
    spec: DatasetSpec,
    protocol: Mapping[str, Any],
    measured: Sequence[Measured] = (),
) -> dict[str, Any]:
    """The content of results.json in plain types; also what the report page shows.

    `measured`: the scores of the metrics besides the confusion matrix.
    """
    totals: dict[str, Any] = dict.fromkeys(PUBLISHED)
    own: dict[str, Any] = {f"{name}_f": None for name in PUBLISHED}
    for each in measured:
        totals[each.name] = plain(each.totals())
        own |= plain(each.values())
    scores = summary.scores
    values = {name: getattr(scores, name) for name in METRICS} if scores else {}
    return {
        "format": FORMAT,
        "dataset": spec.name,
        "metrics": {
            **{name: plain(values.get(name)) for name in METRICS},
            "loss": plain(summary.loss),
            **own,
        },
        "bands": _bands(summary),
        "reported": {k: plain(v) for k, v in scores.reported().items()} if scores else None,
        "classes": _classes(scores, measured) if scores else None,
        **totals,
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
    measured: Sequence[Measured] = (),
) -> dict[str, Any]:
    """Write results.json whole or not at all; returns its content."""
    results = make_results(summary, spec, protocol, measured)
    text = json.dumps(results, indent=1, allow_nan=False)
    write_atomic(Path(path), (text + "\n").encode())
    return results


def _bands(summary: EvalSummary) -> dict[str, Any] | None:
    if summary.bands is None:
        return None
    return {
        key: {**{name: plain(getattr(own, name)) for name in METRICS}, "iou": plain(own.iou)}
        for key, own in summary.bands.items()
    }


def _classes(scores: Scores, measured: Sequence[Measured]) -> list[dict[str, Any]]:
    own: dict[str, Sequence[float] | None] = {OF_CLASSES: None}
    for each in measured:
        own |= each.of_classes()
    total = max(int(scores.matrix.sum()), 1)
    return [
        {
            "id": number,
            "name": name,
            **{key: plain(getattr(scores, key)[number]) for key in RATIOS},
            "label_share": float(scores.matrix[number].sum() / total),
            **{key: None if each is None else plain(each[number]) for key, each in own.items()},
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
