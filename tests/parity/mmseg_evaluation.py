# SPDX-License-Identifier: Apache-2.0
"""Recorded windows, multi-scale averages and scores of mmsegmentation."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datasets.base import map_ids
from datasets.batch import Batch
from datasets.loader import collate
from datasets.resizer import make_resizer
from datasets.spec import IGNORE, DatasetSpec, zero_label_ids
from engine.compute import Compute
from engine.evaluate import evaluate
from engine.predict import Inputs, flip, multi_scale, scores_of, slide, whole
from engine.windows import window_starts
from metrics.confusion import ConfusionMatrix, Scores
from network.outputs import PRED
from tests.parity import recipe
from tests.parity.core import Check, Row, compare, same
from tests.parity.fixture import CannotRun, Fixture, Record, first_case
from tests.parity.mmseg_data import normalisation_rows
from transforms.pipeline import eval_pipeline
from transforms.sample import Sample


class Ramps(nn.Module):
    """The function of the fixtures: logits depend on the colour and the place in the input."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Tensor] = []
        self.eval()

    def forward(
        self, images: Tensor, rows: Tensor | None = None, return_all: bool = False
    ) -> dict[str, Tensor]:
        self.inputs.append(images)
        y = torch.arange(images.shape[2], dtype=images.dtype)[:, None]
        x = torch.arange(images.shape[3], dtype=images.dtype)[None, :]
        classes = [
            0.5 * (k + 1) * images[:, k % 3] + 0.01 * (k + 1) * y + 0.02 * (k - 1) * x + 0.1 * k
            for k in range(4)
        ]
        return {PRED: torch.stack(classes, 1)}


def moments(values: Tensor) -> list[float]:
    """Mean and sample standard deviation."""
    return [float(values.double().mean()), float(values.double().std())]


def map_rows(
    name: str, got: Tensor, header: Record, stored: np.ndarray, tolerance: Any
) -> list[Row]:
    """Shape, moments and every stride-th value of a map (1, K, H, W)."""
    step = header["stride"]
    return [
        compare(f"{name} shape", got.shape, header["shape"]),
        compare(f"{name} moments", moments(got), [header["mean"], header["std"]], **tolerance),
        compare(name, got[..., ::step, ::step], stored, **tolerance),
    ]


def check_slide(fixture: Fixture) -> list[Row]:
    """Windows, averaged logits, their resize and the classes of every case."""
    if fixture.header.get("align_corners", False):
        raise CannotRun("align_corners: true is not how windows are resized here")
    rows = []
    tolerance = fixture.header["tolerance"].plain()
    for case in fixture.header["cases"]:
        number = case["index"]
        name = f"{fixture.name}/{number}"
        crop, stride = tuple(case["crop_size"]), tuple(case["stride"])
        image = recipe.image(**case["image"].plain())
        images = torch.from_numpy(image)[None]
        spans = []
        for axis in (0, 1):
            length = image.shape[1 + axis]
            size = min(crop[axis], length)
            starts = window_starts(length, size, stride[axis])
            spans.append([(start, start + size) for start in starts])
        boxes = [[*rows_, *columns] for rows_, columns in product(*spans)]
        rows.append(compare(f"{name} windows", boxes, case["windows_y1_y2_x1_x2"]))
        hits = np.zeros(image.shape[1:], int)
        for top, bottom, left, right in boxes:
            hits[top:bottom, left:right] += 1
        rows.append(compare(f"{name} largest count", hits.max(), case["max_count"]))
        infer = slide(whole(Ramps()), crop, stride, batch_windows=2)
        logits = infer(images, None)[PRED]
        inputs = Inputs(images=images, size=tuple(case["ori_shape"]))
        scores = scores_of(infer, inputs)[PRED]
        pred = scores.argmax(1)
        for key, got in (("logits", logits), ("rescaled", scores)):
            stored = fixture.arrays[f"{key}_{number}"]
            rows += map_rows(f"{name} {key}", got, case[key], stored, tolerance)
        step, counts = case["pred"]["stride"], torch.bincount(pred.flatten(), minlength=4)
        rows += [
            compare(f"{name} counts", counts, case["pred"]["class_counts"]),
            same(f"{name} pred shape", list(pred.shape), case["pred"]["shape"]),
            compare(f"{name} pred", pred[:, ::step, ::step], fixture.arrays[f"pred_{number}"]),
        ]
    return rows


def one_batch(picture: np.ndarray, box: tuple[int, int]) -> Batch:
    """An image (H, W, 3) RGB as the loader delivers it with `--test_scale`."""
    pipeline = eval_pipeline(ignore_label=IGNORE, test_scale=box)
    label = np.zeros(picture.shape[:2], np.uint8)
    sample = Sample(image=picture, label=label, name="picture")
    return collate([pipeline(sample, np.random.default_rng(0))])


def check_multiscale(fixture: Fixture) -> list[Row]:
    rows = normalisation_rows(fixture)
    tolerance = fixture.header["tolerance"].plain()
    for case in fixture.header["cases"]:
        number = case["index"]
        name = f"{fixture.name}/{number}"
        width, height = case["img_scale_w_h"]
        box = max(width, height), min(width, height)
        picture = np.ascontiguousarray(fixture.arrays[f"image_{number}"][..., ::-1])
        size = [case["height"], case["width"]]
        rows.append(same(f"{name} size", list(picture.shape[:2]), size))
        batch, net = one_batch(picture, box), Ramps()
        infer = multi_scale(whole(net), case["ratios"], "probs", make_resizer(box))
        infer = flip(infer, "probs") if case["flip"] else infer
        inputs = Inputs(
            images=batch.network_input("cpu"), size=batch.sizes[0], originals=batch.originals
        )
        scores = scores_of(infer, inputs)[PRED]
        # here the mirrored view of a scale comes before the plain one
        recorded = sorted(case["network_inputs"], key=lambda row: (row["height"], not row["flip"]))
        order = sorted(net.inputs, key=lambda images: images.shape[2])
        flips = [
            flip_ for _ in case["ratios"] for flip_ in ((True, False) if case["flip"] else (False,))
        ]
        rows.append(same(f"{name} flips", flips, [row["flip"] for row in recorded]))
        got = [[*images.shape[2:], *moments(images)] for images in order]
        want = [[row[key] for key in ("height", "width", "mean", "std")] for row in recorded]
        pred = scores.argmax(1)
        counts = torch.bincount(pred.flatten(), minlength=4)
        rows += [
            compare(f"{name} inputs", got, want, **tolerance),
            compare(
                f"{name} prob",
                scores.exp()[..., ::2, ::2],
                fixture.arrays[f"prob_{number}"],
                **tolerance,
            ),
            compare(f"{name} pred", pred[0], fixture.arrays[f"pred_{number}"]),
            compare(f"{name} counts", counts, case["class_counts"]),
        ]
    return rows


def spec_of(num_classes: int, zero_label: bool) -> DatasetSpec:
    """A set of numbered classes, with or without an "other" id in front of them."""
    ids = zero_label_ids(num_classes) if zero_label else {k: k for k in range(num_classes)}
    return DatasetSpec(
        name="numbered",
        class_names=tuple(f"class {k}" for k in range(num_classes)),
        palette=tuple((k, k, k) for k in range(num_classes)),
        id_to_train_id={**ids, IGNORE: IGNORE},
        ignore_label=IGNORE,
        train_id_to_id=tuple(range(num_classes)),
    )


class Recorded(nn.Module):
    """Scores whose largest is the recorded class of every pixel."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.eval()

    def forward(
        self, images: Tensor, rows: Tensor | None = None, return_all: bool = False
    ) -> dict[str, Tensor]:
        classes = images[:, 0].long()
        return {PRED: nn.functional.one_hot(classes, self.num_classes).permute(0, 3, 1, 2).float()}


def check_metrics(fixture: Fixture) -> list[Row]:
    """Through the evaluation loop: raw annotations, label map, confusion, scores."""
    rows = []
    for case in fixture.header["cases"]:
        number, classes = case["index"], case["num_classes"]
        spec = spec_of(classes, case["reduce_zero_label"])
        batches, matrix = [], ConfusionMatrix(classes, ignore_label=IGNORE)
        rows.append(
            same(f"{fixture.name}/{number} ignore", IGNORE, case.get("ignore_index", IGNORE))
        )
        for image in range(case["images"]):
            pred = fixture.arrays[f"pred_{number}_{image}"]
            label = map_ids(fixture.arrays[f"gt_{number}_{image}"], spec)
            assert label is not None
            matrix.update(torch.from_numpy(pred), torch.from_numpy(label))
            picture = torch.from_numpy(pred).float().expand(1, 3, *pred.shape)
            labels = torch.from_numpy(label).long()[None]
            batches.append(
                Batch(images=picture, labels=labels, names=[f"{image}"], indices=[image])
            )
        summary = evaluate(
            whole(Recorded(classes)), batches, spec, Compute(device=torch.device("cpu"))
        )
        scores = summary.scores
        assert scores is not None
        rows.append(compare(f"{fixture.name}/{number} matrix", scores.matrix, matrix.matrix))
        rows += score_rows(f"{fixture.name}/{number}", case, scores)
    return rows


def score_rows(name: str, case: Record, scores: Scores) -> list[Row]:
    hist = scores.matrix
    area = {
        "area_intersect": hist.diagonal(),
        "area_union": hist.sum(0) + hist.sum(1) - hist.diagonal(),
        "area_pred": hist.sum(0),
        "area_label": hist.sum(1),
    }
    means = {"aAcc": scores.acc, "mIoU": scores.mean_iu, "mAcc": scores.acc_cls}
    each = {"acc": scores.recall, "iou": scores.iou, "dice": scores.dice}
    got: dict[str, Any] = {**area, **means, **each, "mDice": scores.mean_dice}
    rows = [
        compare(f"{name} {key}", value, np.asarray(case[key], np.float64), rtol=1e-12)
        for key, value in got.items()
        if key in case
    ]
    reported = scores.reported()
    rows += [
        compare(f"{name} reported {key}", reported[key], value, rtol=1e-14)
        for key, value in case.get("reported", {}).items()
    ]
    return rows


CHECKS = (
    Check(
        "mmseg windows",
        lambda fixture: "windows_y1_y2_x1_x2" in first_case(fixture),
        check_slide,
        {
            "net": "describes the function",
            "image": "says how it is drawn",
            "cases.*.index": "names the arrays",
        },
    ),
    Check(
        "mmseg scales and mirrors",
        lambda fixture: "network_inputs" in first_case(fixture),
        check_multiscale,
        {"cases.*.index": "names the arrays"},
    ),
    Check(
        "mmseg scores",
        lambda fixture: "area_intersect" in first_case(fixture),
        check_metrics,
        {"cases.*.index": "names the arrays"},
    ),
)
