# SPDX-License-Identifier: Apache-2.0
"""Recorded boundary ground truth and boundary losses of UN-EPT."""

from __future__ import annotations

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
from loss.objective import Objective
from network.outputs import DIRECTION, MASK, PRED
from tests.parity.core import Fixture, Row, compare
from transforms.boundary import ANGLE, DEPTH, NO_DIRECTION, boundary_maps

NUM_CLASSES, VOID = 150, 255
AGREEING = 0.995  # share of directions that the fixture asks for


def check_dt_offset(fixture: Fixture) -> list[Row]:
    """Depth is equal, directions within a step of the truncation, classes nearly all equal."""
    rows = []
    for case in sorted({name.split(".")[0] for name in fixture.arrays}):
        want = {key.split(".")[1]: fixture.arrays[key] for key in fixture.arrays if case in key}
        raw = want["label"].astype(np.int64)
        label = np.where((raw >= 1) & (raw <= NUM_CLASSES), raw - 1, VOID).astype(np.uint8)
        depth, direction = boundary_maps(label, NUM_CLASSES)
        rows.append(compare(f"{case}.depth", depth, want["depth"]))
        elsewhere = direction[depth == 0]
        none = np.full_like(elsewhere, NO_DIRECTION)
        rows.append(compare(f"{case}.dir_deg without region", elsewhere, none))
        defined = want["gradient_defined"]
        apart = np.abs(direction.astype(int) - want["dir_deg"])
        apart = np.minimum(apart, 180 - apart)[defined]
        rows.append(compare(f"{case}.dir_deg", apart, np.zeros_like(apart), atol=1))
        rows.append(compare(f"{case}.mask", depth <= BAND, want["mask"]))
        angle = torch.from_numpy(direction.astype(np.int64)) * 2 - 180
        classes = direction_classes(angle).numpy()
        share = (classes == want["direction"])[defined].mean()
        rows.append(compare(f"{case}.direction", min(share, AGREEING), AGREEING))
        recorded = torch.from_numpy(want["angle"].astype(np.int64))
        exact = direction_classes(recorded).numpy()
        rows.append(compare(f"{case}.direction of the recorded angle", exact, want["direction"]))
        vector = np.moveaxis(np.array(STEPS)[exact], -1, 0)
        rows.append(compare(f"{case}.vector", vector, want["vector"]))
    return rows


class AllPixels:
    """The published average: the sum over the labelled pixels, divided by all of them."""

    def __call__(self, logits: Tensor, labels: Tensor, do_rmi: bool = True) -> Tensor:
        total = torch.nn.functional.cross_entropy(
            logits, labels, ignore_index=VOID, reduction="sum"
        )
        return total / labels.numel()


def check_loss(fixture: Fixture) -> list[Row]:
    """All intermediate values, the total and its gradients, with the published habits."""
    rows = []
    for case in sorted({name.split(".")[0] for name in fixture.arrays}):
        given = {
            key.removeprefix(f"{case}.in."): torch.from_numpy(value)
            for key, value in fixture.arrays.items()
            if key.startswith(f"{case}.in.")
        }
        rows += [
            compare(
                f"{case}.{name}",
                value,
                fixture.arrays[f"{case}.{name}"],
                atol=fixture.header["outputs"][f"{case}.{name}"]["atol"],
                rtol=fixture.header["tolerance"]["rtol"],
            )
            for name, value in measured(given).items()
        ]
    return rows


def measured(given: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
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
    objective = Objective(criterion, num_classes=seg.shape[1], ignore_label=VOID, boundary=loss)
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


CHECKS = {"dt_offset": check_dt_offset, "loss_refinement": check_loss}
