# SPDX-License-Identifier: Apache-2.0
"""Recorded boundary F, modified F, whole evaluations with them, and distance crops of HILA."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from datasets.spec import IGNORE, DatasetSpec, zero_label_ids
from metrics.boundary import boundary_f, boundary_radius, modified_f, outline
from metrics.confusion import ConfusionMatrix, Scores
from metrics.distance_crop import distance_window, published_corner
from metrics.result import ImageResult
from reports.boundary import BoundarySink
from settings.outputs import HILA_THRESHOLD
from tests.parity.core import Check, Row, compare
from tests.parity.fixture import Arrays, Fixture, Record

RTOL = 1e-12


def check_metrics(fixture: Fixture) -> list[Row]:
    """Everything in the file, in its order."""
    header, arrays = fixture.header, fixture.arrays
    rows = [row for case in header.get("f_score", []) for row in f_score(case, arrays)]
    rows += [row for case in header.get("modified_f_score", []) for row in modified(case, arrays)]
    rows += boundary_maps(header, arrays)
    rows += [row for case in header.get("pipeline", []) for row in pipeline(case, arrays)]
    return rows + [row for box in header.get("distance_crop_boxes", []) for row in crop_box(box)]


def f_score(case: Record, arrays: Arrays) -> list[Row]:
    pred, label = (arrays[f"{case['maps']}_{kind}"] for kind in ("pred", "gt"))
    name = f"f_score/{case['maps']}/{case['bound_th']}/{case['ignore_missing']}"
    missing = np.nan if case["ignore_missing"] else 1.0
    threshold = case["bound_th"]
    values = boundary_f(pred, label, case["num_classes"], (threshold,), missing=missing)[0, 0]
    return [
        compare(f"{name}/pixels", boundary_radius(*label.shape, threshold), case["pixels"]),
        compare(f"{name}/f", np.nan_to_num(values), case["f_sum"], rtol=RTOL),
        compare(f"{name}/valid", ~np.isnan(values), case["valid"]),
    ]


def modified(case: Record, arrays: Arrays) -> list[Row]:
    pred, label = (arrays[f"{case['maps']}_{kind}"] for kind in ("pred", "gt"))
    value = modified_f(pred, label, case["num_classes"], case["pixels"])[0, 0, 0]
    name = f"modified/{case['maps']}/{case['pixels']}"
    counted = [float(not np.isnan(value)), *[0.0] * (case["num_classes"] - 1)]  # one for all
    return [
        compare(name, value, case["f"], rtol=RTOL),
        compare(f"{name}/valid", counted, case["valid"]),
    ]


def boundary_maps(header: Record, arrays: Arrays) -> list[Row]:
    """The outlines of every class themselves."""
    rows = []
    for name, count in {
        case["maps"]: case["num_classes"] for case in header.get("f_score", [])
    }.items():
        label = arrays[f"{name}_gt"]
        maps = np.stack([outline(label == number) for number in range(count)])
        rows.append(compare(f"outlines/{name}", np.packbits(maps), arrays[f"{name}_gt_boundary"]))
    return rows


def spec_of(case: Record) -> DatasetSpec:
    count, shifted = case["num_classes"], case["reduce_zero_label"]
    plain = {number: number for number in range(count)} | {IGNORE: IGNORE}
    return DatasetSpec(
        name=case["name"],
        class_names=tuple(map(str, range(count))),
        palette=((0, 0, 0),) * count,
        id_to_train_id=zero_label_ids(count) if shifted else plain,
        ignore_label=IGNORE,
        train_id_to_id=tuple(number + shifted for number in range(count)),
        zero_label=shifted,
    )


def boundary_of(
    case: Record, results: list[ImageResult], *, raw_labels: bool
) -> tuple[list[float | None], float]:
    """F of the classes, None for those that the modified score leaves open, and their mean."""
    sink = BoundarySink(
        spec_of(case),
        (HILA_THRESHOLD,),
        modified=case["modified"],
        raw_labels=raw_labels,
        crop=case["crop"],
    )
    for result in results:
        sink.add(result)
    values = sink.scores.f_score().tolist()
    return values + [None] * (case["num_classes"] - len(values)), sink.scores.mean_f()


def pipeline(case: Record, arrays: Arrays) -> list[Row]:
    """All scores of a small set, from label files to tables."""
    spec, name = spec_of(case), f"pipeline/{case['name']}"
    matrix, results = ConfusionMatrix(spec.num_classes, ignore_label=spec.ignore_label), []
    for index in range(case["images"]):
        label = spec.lut()[arrays[f"{case['name']}_gt{index}"]].astype(np.uint8)
        pred = arrays[f"{case['name']}_pred{index}"]
        results.append(
            ImageResult(name=str(index), index=index, image=None, label=label, pred=pred)
        )
        window = distance_window(*label.shape, case["crop"]) if case["crop"] else slice(None)
        matrix.update(*(torch.from_numpy(each[window].copy()) for each in (pred, label)))
    scores = Scores.of(matrix.matrix, spec.class_names)
    wanted = {"aAcc": scores.acc, "acc": scores.recall, "iou": scores.iou, "mIoU": scores.mean_iu}
    raw = case["reduce_zero_label"]
    wanted["f1"], wanted["mf1"] = boundary_of(case, results, raw_labels=raw)
    if raw:
        shifted = boundary_of(case, results, raw_labels=False)
        wanted["f1_labels_shifted"], wanted["mf1_labels_shifted"] = shifted
    return [
        compare(f"{name}/{key}", as_floats(got), as_floats(case[key]), rtol=RTOL)
        for key, got in wanted.items()
    ]


def as_floats(values: Any) -> np.ndarray:
    return np.asarray(values, np.float64)


def crop_box(box: Record) -> list[Row]:
    """The published box and what it cuts out; our window wherever the published one is whole."""
    height, width, crop = box["height"], box["width"], tuple(box["crop"])
    name = f"distance_crop/{height}x{width}/{crop[0]}x{crop[1]}"
    top, left = published_corner(height, width, crop)
    published = top, top + crop[0], left, left + crop[1]
    cut = np.empty((height, width))[top : published[1], left : published[3]].shape
    rows = [
        compare(f"{name}/box", published, [box[key] for key in ("y1", "y2", "x1", "x2")]),
        compare(f"{name}/published shape", cut, box["published_result_shape"]),
    ]
    window = distance_window(height, width, crop)
    got = [end for side in window for end in (side.start, side.stop)]
    if top >= 0:
        rows.append(compare(f"{name}/window", got, published))
    else:  # published: empty or a strip
        shape = np.empty((height, width))[window].shape
        rows.append(compare(f"{name}/repaired", shape, np.minimum(crop, (height, width))))
    return rows


PARTS = ("f_score", "modified_f_score", "pipeline", "distance_crop_boxes")
CHECKS = (
    Check(
        "hila scores",
        lambda fixture: any(part in fixture.header for part in PARTS),
        check_metrics,
        {"pipeline.*.name": "names the arrays", "distance_crop_metrics": "empty"},
    ),
)
