# SPDX-License-Identifier: Apache-2.0
"""The metrics besides those of the confusion matrix, by the flag that asks for them.

Each is a sink that counts. Its scores go into the log, results.json and the report page.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from datasets.spec import DatasetSpec
from metrics.result import MetricSink
from reports.boundary import BoundarySink
from runtime.errors import UserError
from settings import Settings, catalogue


def open_metrics(settings: Settings, spec: DatasetSpec) -> list[MetricSink]:
    """The metrics that the flags ask for."""
    asked = [flag for flag in METRICS if catalogue()[flag].of(settings)]
    return [METRICS[flag](settings, spec) for flag in asked]


def open_boundary(settings: Settings, spec: DatasetSpec, *, modified: bool = False) -> BoundarySink:
    """The sink of the boundary scores; UserError for labels that the data set has not."""
    outputs = settings.outputs
    if outputs.eval_f1_labels == "raw" and not spec.zero_label:
        raise UserError(
            f"--eval_f1_labels raw: the labels of {spec.name} are not shifted by a zero label; "
            "leave it out"
        )
    return BoundarySink(
        spec,
        outputs.eval_f1_th,
        modified=modified,
        ignore_missing=outputs.eval_f1_missing == "skip",
        raw_labels=outputs.eval_f1_labels == "raw",
        crop=outputs.eval_distance_crop,
    )


METRICS: dict[str, Callable[[Settings, DatasetSpec], MetricSink]] = {
    "eval_f1": open_boundary,
    "mod_f1": partial(open_boundary, modified=True),
}
