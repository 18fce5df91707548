# SPDX-License-Identifier: Apache-2.0
"""Recorded confusion matrices, scores and boundary F of HMSA."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metrics.boundary import boundary_f, boundary_radius
from metrics.confusion import Scores, confusion_matrix
from tests.parity import recipe
from tests.parity.core import Check, Row, compare
from tests.parity.fixture import Fixture, Record, first_case

EXACT = 1e-12
PLAIN_SCORES = ("iou", "mean_iu", "acc", "acc_cls", "fwavacc", "precision", "recall")
USUAL_SHIFT = 2, 3


def draw_confusion(case: Record) -> tuple[Tensor, Tensor]:
    """Prediction and label (H, W) int64, by the formula of the fixture."""
    num_classes = case["num_classes"]
    ignore = case.get("ignore", 255 if num_classes == 19 else num_classes)
    label = recipe.label(case["height"], case["width"], num_classes, case["seed"], ignore)
    rng = np.random.Generator(np.random.PCG64(case["seed"] + 1000))
    agree = rng.uniform(size=label.shape) < case["agree"]
    noise = rng.integers(0, num_classes, label.shape)
    pred = np.where(agree, np.minimum(label, num_classes - 1), noise)
    missing = case["never_predicted"]
    if missing is not None:
        pred[pred == missing] = (missing + 1) % num_classes
    return torch.from_numpy(pred), torch.from_numpy(label)


def score_rows(name: str, metrics: Record, matrix: np.ndarray) -> list[Row]:
    """Every recorded score of a confusion matrix, under the published names and the right ones."""
    scores = Scores.of(matrix, [str(k) for k in range(len(matrix))])
    official = {
        "TP_percent_of_all_pixels": 100 * matrix.diagonal() / matrix.sum(),
        "FP_over_TP (really missed ground truth, FN)": scores.fn_over_tp,
        "FN_over_TP (really false positives)": scores.fp_over_tp,
        "Precision (really recall)": scores.recall,
        "Recall (really precision)": scores.precision,
    }
    groups: dict[str, tuple[Record, dict[str, Any]]] = {
        "": (metrics, {key: getattr(scores, key) for key in PLAIN_SCORES}),
        "official ": (metrics.get("official_columns", {}), official),
        "correct ": (
            metrics.get("correct", {}),
            {"precision": scores.precision, "recall": scores.recall},
        ),
    }
    return [
        compare(f"{name} {title}{key}", value, recorded[key], EXACT, EXACT)
        for title, (recorded, values) in groups.items()
        for key, value in values.items()
        if key in recorded
    ]


def check_metrics(fixture: Fixture) -> list[Row]:
    """Sums of the matrix, and every score; precision and recall in their true sense."""
    rows = []
    for number, case in enumerate(fixture.cases):
        pred, label = draw_confusion(case)
        matrix = confusion_matrix(pred, label, case["num_classes"]).numpy()
        sums = {
            "hist_row_sums": matrix.sum(1),
            "hist_col_sums": matrix.sum(0),
            "hist_diag": matrix.diagonal(),
        }
        name = f"{fixture.name}/{number}"
        rows += [compare(f"{name} {key}", got, case[key]) for key, got in sums.items()]
        rows += score_rows(name, case["metrics"], matrix)
    return rows


def shift_of(case: Record) -> tuple[int, int]:
    """Rows and columns by which the prediction was rolled, from what the case says."""
    found = re.search(r"\),\s*\((-?\d+),\s*(-?\d+)\),\s*\(0,\s*1\)\)", case.get("prediction", ""))
    return (int(found[1]), int(found[2])) if found else USUAL_SHIFT


def check_boundary(fixture: Fixture) -> list[Row]:
    """F and precision of every class of an image, and the radius of the band."""
    rows = []
    for number, case in enumerate(fixture.cases):
        size, classes = (case["height"], case["width"]), case["classes"]
        label = recipe.label(*size, classes, case["seed"])
        drawn = recipe.label(*size, classes, case["seed"], ignore=0)
        pred = np.roll(drawn, shift_of(case), (0, 1))
        maps = pred.astype(np.uint8), label.astype(np.uint8)
        f_score, precision, _ = boundary_f(*maps, classes, (case["bound_th"],))[0]
        got = np.stack((f_score, precision), axis=1)
        name = f"{fixture.name}/{number} th {case['bound_th']}"
        radius = boundary_radius(*size, case["bound_th"])
        rows += [
            compare(f"{name} radius", radius, case["dilation_radius"]),
            compare(name, got, case["F_and_precision_per_class"], EXACT, EXACT),
        ]
    return rows


CHECKS = (
    Check("hmsa scores", lambda fixture: "hist_diag" in first_case(fixture), check_metrics),
    Check(
        "hmsa boundary F",
        lambda fixture: "F_and_precision_per_class" in first_case(fixture),
        check_boundary,
        {"cases.*.gt": "says how the label is drawn", "cases.*.prediction": "says how it is drawn"},
    ),
)
