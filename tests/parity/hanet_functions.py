# SPDX-License-Identifier: Apache-2.0
"""Recorded functions of HANet: losses, windows, positions, sampling, scores, schedule, code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assembly.objective import CITYSCAPES_WEIGHTS
from datasets.uniform import epoch_list
from engine.schedule import poly_iter
from engine.windows_hanet import window_boxes
from loss.cross_entropy import CrossEntropy, ImageWeightedCrossEntropy
from loss.relaxed import RelaxedCrossEntropy, marked_target, relaxed_target
from metrics.bands import band_confusion, band_scores
from metrics.confusion import Scores
from network.heads.hanet import sinusoids
from network.ops.rows import PAD, row_steps
from tests.parity import recipe
from tests.parity.core import Check, Row, compare
from tests.parity.fixture import CannotRun, Fixture, Record
from tests.parity.published import unclipped_centroids
from transforms.resample import Window, resample_rows
from transforms.sample import row_positions

IGNORE = 255
RECORDED_SCORES = ("acc", "acc_cls", "mean_iu", "fwavacc")
Case = Record


def rows_of(positions: np.ndarray) -> Tensor:
    """Positions (H,) as the network wants them."""
    return torch.from_numpy(positions.astype(np.float32))[None]


def bins(positions: np.ndarray) -> list[int]:
    """Index of the height code for the 16 rows of a block."""
    return [int(step) // 8 for step in row_steps(rows_of(positions), 16)[0]]


def published_rows(case: Case) -> np.ndarray:
    """The positions of a crop, with what the published loader makes of padding.

    Its map is read at column 0: padding there marks every row. Rows that the crop reaches beyond
    the padded image are filled with 0 by the image library.
    """
    (pad_y, pad_x), (top, left) = case["pad_each_side"], case["crop_top_left"]
    window = Window(
        scaled=tuple(case["scaled"]),
        top=top - pad_y,
        left=left - pad_x,
        height=case["crop"],
        width=case["crop"],
    )
    rows = resample_rows(row_positions(case["image"][0]), window)
    if window.left < 0:
        rows[:] = PAD
    rows[max(case["scaled"][0] + 2 * pad_y - top, 0) :] = 0
    return rows


def check_positions(case: Case) -> list[Row]:
    rows = published_rows(case)
    steps = row_steps(rows_of(rows), len(rows))[0]
    name = f"positions {case['image'][0]}->{case['scaled'][0]}"
    return [
        compare(f"{name} bins", bins(rows), case["position_index_16"]),
        compare(f"{name} column", [int(steps[0]), int(steps[-1])], case["column0_first_last"]),
    ]


def check_windows(case: Case) -> list[Row]:
    scale, (height, width) = case["scale"], case["image"]
    size = int(height * scale), int(width * scale)
    side = int(case["crop_size"] * max(scale, 1))
    boxes = window_boxes(size, (side, side), case["overlap"])
    positions = row_positions(size[0])
    name = f"windows {height}x{width} {case['crop_size']} {scale}"
    found = [[box.left, box.top, box.right, box.bottom] for box in boxes]
    indices = [bins(positions[box.top : box.bottom]) for box in boxes]
    return [
        compare(f"{name} size", size, case["scaled"]),
        compare(f"{name} boxes", found, case["boxes_x1y1x2y2"]),
        compare(f"{name} bins", indices, case["position_index_16"]),
    ]


def loss_functions(case: Case) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """The loss of every recorded name."""
    bound, strict = case["wt_bound"], tuple(case["strict_classes"])

    def relaxed(**options: Any) -> RelaxedCrossEntropy:
        return RelaxedCrossEntropy(IGNORE, bound, mean_of_images=True, **options)

    off = relaxed()  # as after the end of the relaxation
    off.relaxing = False
    return {
        "ce": CrossEntropy(IGNORE),
        "ce_class_weighted": CrossEntropy(IGNORE, class_weights=CITYSCAPES_WEIGHTS),
        "image_weighted": ImageWeightedCrossEntropy(IGNORE, bound, per_image=True),
        "image_weighted_batch": ImageWeightedCrossEntropy(IGNORE, bound),
        "relaxed": relaxed(),
        "relaxed_batch_weighted": relaxed(batch_weighting=True),
        "relaxed_strict": relaxed(strict=strict),
        "relaxed_after_off": off,
    }


def target_sums(case: Case, labels: Tensor) -> dict[str, list[int]]:
    """Sums of the relaxed targets by channel, over all samples."""
    classes = case["num_classes"]
    targets = {
        "relaxed_target": relaxed_target(labels, classes, IGNORE),
        "relaxed_strict_target": relaxed_target(
            labels, classes, IGNORE, tuple(case["strict_classes"])
        ),
        "relaxed_after_off_target": marked_target(labels, classes, IGNORE),
    }
    return {f"{k}_channel_sums": v.long().sum((0, 2, 3)).tolist() for k, v in targets.items()}


def check_losses(case: Case, tolerance: dict[str, float]) -> list[Row]:
    classes, size = case["num_classes"], (case["height"], case["width"])
    logits = recipe.tensor("logits", (2, classes, *size), gain=case["logits_gain"])
    drawn = [recipe.label(*size, classes, case["seed"] + i) for i in range(2)]
    labels = torch.from_numpy(np.stack(drawn))
    functions, sums = loss_functions(case), target_sums(case, labels)
    rows = []
    for key, want in case["values"].items():
        name = f"losses {classes} classes {key}"
        if key in functions:
            got = float(functions[key](torch.from_numpy(logits), labels))
            rows.append(compare(name, got, want, **tolerance))
        elif key in sums:
            rows.append(compare(name, sums[key], want))
        else:
            raise CannotRun(f"values: {key} is no known loss")
    return rows


def check_centroids(case: Case) -> list[Row]:
    label = recipe.label(case["height"], case["width"], case["num_classes"], case["seed"])
    found = unclipped_centroids(label.astype(np.uint8), case["num_classes"], case["tile"])
    want = case["centroids_xy_per_class"]
    rows = [compare("centroids classes", sorted(found), sorted(map(int, want)))]
    for key, points in want.items():
        name = f"centroids tile {case['tile']} class {key}"
        rows.append(compare(name, np.array(found[int(key)]), points))
    return rows


def check_epoch(case: Case) -> list[Row]:
    absent = case["classes_without_centroid"]
    classes = case["num_classes"]
    centroids = {k: [(k, 100 + k, 1)] for k in range(classes) if k not in absent}
    entries = epoch_list(case["images"], centroids, case["class_uniform_pct"], classes, 0, 0)
    drawn = Counter("random" if at is None else str(at[0] - 100) for _, at in entries)
    name = f"epoch of {case['images']} without {absent}"
    keys = sorted(drawn.keys() | case["drawn"].keys())
    return [
        compare(f"{name} length", len(entries), case["epoch_length"]),
        compare(name, [drawn[k] for k in keys], [case["drawn"].get(k, 0) for k in keys]),
    ]


def check_metrics(case: Case, tolerance: dict[str, float]) -> list[Row]:
    classes, seed = case["num_classes"], case["seed"]
    size = case["height"], case["width"]
    label, pred = recipe.label(*size, classes, seed), recipe.label(*size, classes, seed + 1)
    pred[pred == IGNORE] = 0
    right = np.random.Generator(np.random.PCG64(seed)).uniform(size=size) < 0.6
    pred = np.where(right & (label < classes), label, pred)
    matrices = band_confusion(
        torch.from_numpy(pred.astype(np.uint8)), torch.from_numpy(label.astype(np.uint8)), classes
    )
    names = tuple(map(str, range(classes)))
    scores = {"whole": Scores.of(matrices.sum(0), names), **band_scores(matrices, names)}
    rows = []
    for band, want in case["values"].items():
        got = [getattr(scores[band], key) for key in RECORDED_SCORES]
        wanted = [want[key] for key in RECORDED_SCORES]
        rows.append(compare(f"metrics {classes} {band}", got, wanted, **tolerance))
    return rows


def check_poly(case: Case, tolerance: dict[str, float]) -> list[Row]:
    value = case["lr"] * poly_iter(case["max_iter"], case["exp"])(case["iter"])
    name = f"poly {case['exp']} at {case['iter']}"
    return [compare(name, value, case["value"], 0.0, tolerance["rtol"])]


def check_code(case: Case, tolerance: dict[str, float]) -> list[Row]:
    rows = []
    for channels, table in case["tables"].items():
        listed = case["listed_rows"]
        listed = listed[channels] if isinstance(listed, Record) else listed
        got = sinusoids(case["rows"], int(channels))[listed]
        rows.append(compare(f"code of {channels} channels", got, table, **tolerance))
    return rows


def check_functions(fixture: Fixture) -> list[Row]:
    """Every recorded function; a kind that nothing here knows is an error."""
    tolerance = fixture.header["tolerance"].plain()
    rows: list[Row] = []
    for kind, cases in fixture.header.items():
        if kind in ("kind", "tolerance", "what", "note"):
            continue
        if kind not in EXACT and kind not in CLOSE:
            raise CannotRun(f"{kind}: no check knows this function")
        for case in cases:
            rows += EXACT[kind](case) if kind in EXACT else CLOSE[kind](case, tolerance)
    return rows


EXACT: dict[str, Callable[[Case], list[Row]]] = {
    "positions": check_positions,
    "sliding_windows": check_windows,
    "centroids": check_centroids,
    "epoch": check_epoch,
}
CLOSE: dict[str, Callable[[Case, dict[str, float]], list[Row]]] = {
    "losses": check_losses,
    "metrics": check_metrics,
    "poly": check_poly,
    "sinusoid": check_code,
}
CHECKS = (
    Check(
        "hanet functions",
        lambda fixture: fixture.header.get("kind") == "functions",
        check_functions,
    ),
)
