# SPDX-License-Identifier: Apache-2.0
"""Recorded boundary ground truth and boundary losses of UN-EPT."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from loss.boundary import (
    BAND,
    STEPS,
    BoundaryLoss,
    direction_classes,
    enlarged,
    refined,
)
from loss.cross_entropy import IGNORED
from loss.objective import BoundarySupervision, Objective
from network.outputs import DIRECTION, MASK, PRED
from tests.parity.core import Check, Row, compare, same
from tests.parity.fixture import Fixture, Record
from tests.parity.networks import statistics
from transforms.boundary import (
    ANGLE,
    DEPTH,
    HALF_TURN,
    MIN_PIXELS,
    NO_DIRECTION,
    _add_class,
    boundary_maps,
)

USUAL_CLASSES, VOID = 150, 255
USUAL_WEIGHTS = (0.8, 5.0, 0.6, 1.0)
WEIGHT_NAMES = ("seg", "mask", "direction", "refined")
SHORTEST = 1e-3  # gradient of the distance that has a direction
MEAN_ATOL = 1e-6
AGREEING = 0.995  # share of directions that the fixture asks for


def slopes_defined(label: np.ndarray) -> np.ndarray:
    """Where (H, W) the gradient of the distance has a length, and so a direction."""
    depth, gradient = np.zeros(label.shape, np.float32), np.zeros((2, *label.shape), np.float32)
    counts = np.bincount(label.ravel(), minlength=256)[:VOID]
    for class_id in np.flatnonzero(counts >= MIN_PIXELS):
        _add_class(label, int(class_id), depth, gradient)
    return np.asarray(np.hypot(*gradient) > SHORTEST)


def classes_in(fixture: Fixture) -> int:
    """The number of classes, which the fixture states in words."""
    found = re.search(r"1\.\.(\d+) are classes", str(fixture.header.peek().get("arrays", "")))
    return int(found[1]) if found else USUAL_CLASSES


def check_dt_offset(fixture: Fixture) -> list[Row]:
    """Depth is equal, directions within a step of the truncation, classes nearly all equal."""
    rows, classes = [], classes_in(fixture)
    for case in cases_of(fixture):
        want = {
            key.removeprefix(f"{case}."): fixture.arrays[key]
            for key in fixture.arrays
            if key.startswith(f"{case}.")
        }
        raw = want["label"].astype(np.int64)
        label = np.where((raw >= 1) & (raw <= classes), raw - 1, VOID).astype(np.uint8)
        rows += depth_rows(case, label, classes, want)
        rows += direction_rows(case, want)
        if case in fixture.header.get("outputs", {}):
            rows += summary_rows(case, want, fixture.header["outputs"][case])
    return rows


def depth_rows(
    case: str, label: np.ndarray, num_classes: int, want: Mapping[str, np.ndarray]
) -> list[Row]:
    """The two maps of a label, and the direction classes that follow from them."""
    depth, direction = boundary_maps(label, num_classes)
    defined = want["gradient_defined"]
    elsewhere = want["dir_deg"][depth == 0]
    apart = np.abs(direction.astype(int) - want["dir_deg"])
    apart = np.minimum(apart, HALF_TURN - apart)[defined]
    classes = direction_classes(torch.from_numpy(direction.astype(np.int64)) * 2 - HALF_TURN)
    share = (classes.numpy() == want["direction"])[defined].mean()
    return [
        compare(f"{case}.depth", depth, want["depth"]),
        compare(f"{case}.mask", depth <= BAND, want["mask"]),
        compare(f"{case}.gradient_defined", slopes_defined(label), defined),
        compare(f"{case}.dir_deg without region", np.full_like(elsewhere, NO_DIRECTION), elsewhere),
        compare(f"{case}.dir_deg", apart, np.zeros_like(apart), atol=1),
        compare(f"{case}.direction", min(share, AGREEING), AGREEING),
    ]


def direction_rows(case: str, want: Mapping[str, np.ndarray]) -> list[Row]:
    """Angles, classes and steps that follow from the recorded direction itself."""
    restored = want["dir_deg"].astype(np.int64) * 2 - HALF_TURN
    exact = direction_classes(torch.from_numpy(want["angle"].astype(np.int64))).numpy()
    vector = np.moveaxis(np.array(STEPS)[exact], -1, 0)
    return [
        compare(f"{case}.angle", restored, want["angle"]),
        compare(f"{case}.direction of the recorded angle", exact, want["direction"]),
        compare(f"{case}.vector", vector, want["vector"]),
    ]


def summary_rows(case: str, want: Mapping[str, np.ndarray], spec: Record) -> list[Row]:
    """Size and means of the recorded maps."""
    facts = {
        "depth_max": want["depth"].max(),
        "depth_mean": want["depth"].mean(),
        "dir_deg_mean": want["dir_deg"].mean(),
        "boundary_fraction": want["mask"].mean(),
        "shape": want["depth"].shape,
    }
    return [
        compare(f"{case} {key}", got, spec[key], MEAN_ATOL)
        for key, got in facts.items()
        if key in spec
    ]


class AllPixels:
    """The published average: the sum over the labelled pixels, divided by all of them."""

    def __call__(self, logits: Tensor, labels: Tensor, do_rmi: bool = True) -> Tensor:
        total = torch.nn.functional.cross_entropy(
            logits, labels, ignore_index=VOID, reduction="sum"
        )
        return total / labels.numel()


def check_loss(fixture: Fixture) -> list[Row]:
    """All intermediate values, the total and its gradients, with the published habits."""
    rows, header = [], fixture.header
    weights = weights_of(header)
    for case in cases_of(fixture):
        given = {
            key.removeprefix(f"{case}.in."): torch.from_numpy(fixture.arrays[key])
            for key in fixture.arrays
            if key.startswith(f"{case}.in.")
        }
        for part, value in measured(given, weights).items():
            name = f"{case}.{part}"
            if name not in fixture.arrays:
                continue
            spec = header["outputs"].get(name, {})
            atol = spec.get("atol", header["tolerance"]["atol"])
            rtol = header["tolerance"]["rtol"]
            rows.append(compare(name, value, fixture.arrays[name], atol, rtol))
            if "shape" in spec:
                rows.append(same(f"{name} shape", list(value.shape), spec["shape"]))
            if spec:
                rows += statistics(name, np.asarray(value), spec, atol, rtol)
    return rows


def weights_of(header: Record) -> tuple[float, float, float, float]:
    """Weights of the scores, the mask, the direction and the refined scores."""
    if "weights" not in header:
        return USUAL_WEIGHTS
    first, second, third, fourth = (header["weights"][key] for key in WEIGHT_NAMES)
    return first, second, third, fourth


def measured(
    given: Mapping[str, Tensor], weights: tuple[float, float, float, float]
) -> dict[str, np.ndarray]:
    """What the fixture records, computed by our loss."""
    labels, depth, angle = (given[k][:, 0].long() for k in ("label", "distance", "angle"))
    names = ("seg_logits", "mask_logits", "direction_logits")
    seg, mask, direction = (given[name].clone().requires_grad_() for name in names)
    loss = BoundaryLoss(VOID, official=True)
    outputs = {PRED: seg, MASK: mask, DIRECTION: direction}
    big_mask, big_direction = enlarged(outputs, labels.shape[1:])
    targets = loss.targets(labels, depth, angle)
    mask_loss, direction_loss = loss.terms(big_mask, big_direction, targets)
    seen = big_mask.softmax(1)[:, 1] > 0.5
    wanted = torch.where(seen, targets.direction, -1)
    step = torch.tensor(STEPS)[big_direction.argmax(1)] * (big_mask[:, 1] > 0.5)[..., None]
    criterion = AllPixels()
    objective = Objective(
        criterion,
        num_classes=seg.shape[1],
        ignore_label=VOID,
        boundary=BoundarySupervision(loss=loss, parts=weights),
    )
    extras = {DEPTH: depth, ANGLE: (angle + 180) / 2}
    total = objective(outputs, labels, extras).total
    total.backward()
    assert seg.grad is not None and mask.grad is not None and direction.grad is not None
    values = {
        "mask_loss": mask_loss,
        "mask_weights": shares(targets.near, 2),
        "mask_target": targets.near,
        "direction_loss": direction_loss,
        "direction_weights": shares(torch.where(wanted < 0, IGNORED, wanted), 8),
        "direction_target": wanted,
        "offset": step,
        "refined": refined(outputs),
        "seg_loss": criterion(seg, labels),
        "refined_loss": criterion(refined(outputs), labels),
        "loss": total,
        "acc_seg": 100 * (seg.argmax(1) == labels).float().mean()[None],
        "grad_seg_logits": seg.grad,
        "grad_mask_logits": mask.grad,
        "grad_direction_logits": direction.grad,
    }
    return {name: value.detach().numpy() for name, value in values.items()}


def shares(target: Tensor, num_classes: int) -> Tensor:
    """1 - share of each class among the pixels that count."""
    counts = torch.bincount(target[target != IGNORED], minlength=num_classes).float()
    return 1 - counts / counts.sum()


def cases_of(fixture: Fixture) -> list[str]:
    """Names of the cases, which stand in front of the names of their arrays."""
    return sorted({name.split(".")[0] for name in fixture.arrays})


def holds(fixture: Fixture, part: str) -> bool:
    return any(part in f"{name}." for name in fixture.arrays)


CHECKS = (
    Check(
        "unept boundary targets",
        lambda fixture: holds(fixture, ".dir_deg."),
        check_dt_offset,
        {
            "arch": "what it is called",
            "arrays.*.*": "in words",
            "mat.*": "in words",
            "tolerance.*": "in words",
        },
    ),
    Check(
        "unept boundary loss",
        lambda fixture: holds(fixture, ".in.seg_logits."),
        check_loss,
        {"arch": "what it is called"},
    ),
)
