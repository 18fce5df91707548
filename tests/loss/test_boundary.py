# SPDX-License-Identifier: Apache-2.0
"""Losses of boundary supervision where the recorded numbers do not reach."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from config import UserError
from datasets import pascal_context
from datasets.base import map_ids
from loss.boundary import (
    BoundaryLoss,
    direction_classes,
    moved_scores,
    weighted_cross_entropy,
)
from loss.cross_entropy import IGNORED, CrossEntropy
from loss.objective import BoundarySupervision, Objective
from network.outputs import DIRECTION, MASK, PRED
from transforms.boundary import ANGLE, DEPTH, boundary_maps

VOID = 255


@pytest.mark.parametrize(
    ("angle", "class_id"),
    [
        *((-180, 0), (-158, 0), (-157, 1), (-90, 2), (0, 4), (22, 4)),
        *((24, 5), (90, 6), (157, 7), (158, 0), (180, 0), (255, 0)),
    ],
)
def test_angles_fall_into_eight_directions(angle: int, class_id: int) -> None:
    assert direction_classes(torch.tensor([angle])).item() == class_id


def batch(near_boundary: bool = True) -> tuple[dict[str, torch.Tensor], torch.Tensor, dict]:
    """Outputs, labels and maps of a 2x16x16 batch, half of it void."""
    generator = torch.Generator().manual_seed(0)
    outputs = {
        PRED: torch.randn(2, 3, 16, 16, generator=generator, requires_grad=True),
        MASK: torch.randn(2, 2, 2, 2, generator=generator, requires_grad=True),
        DIRECTION: torch.randn(2, 8, 2, 2, generator=generator, requires_grad=True),
    }
    if not near_boundary:
        outputs[MASK] = torch.tensor([9.0, -9.0]).view(1, 2, 1, 1).expand(2, 2, 2, 2).clone()
        outputs[MASK].requires_grad_()
    labels = torch.randint(0, 3, (2, 16, 16), generator=generator)
    labels[:, 8:] = VOID
    depth = torch.randint(1, 12, (2, 16, 16), generator=generator)
    depth[:, 8:] = 0
    angle = torch.randint(0, 181, (2, 16, 16), generator=generator).byte()
    return outputs, labels, {DEPTH: depth.byte(), ANGLE: angle}


def objective(official: bool = False) -> Objective:
    loss = BoundaryLoss(VOID, official=official)
    return Objective(
        CrossEntropy(VOID),
        num_classes=3,
        ignore_label=VOID,
        boundary=BoundarySupervision(loss=loss),
    )


def test_void_teaches_nothing_unless_asked_for() -> None:
    outputs, labels, extras = batch()
    other = {**extras, ANGLE: extras[ANGLE].clone()}
    other[ANGLE][:, 8:] = 13
    totals = [objective()(outputs, labels, each).total for each in (extras, other)]
    assert torch.equal(*totals)
    official = [objective(official=True)(outputs, labels, each).total for each in (extras, other)]
    assert not torch.equal(*official)


def test_background_and_small_classes_teach_no_boundary_with_60_classes_as_with_59() -> None:
    raw = np.zeros((40, 50), np.uint8)  # background
    raw[8:30, 10:40] = 7
    raw[12:17, 15:20] = 9  # 25 pixels
    found = []
    for spec in (pascal_context.SPEC, pascal_context.SPEC_59):
        label = map_ids(raw, spec)
        depth, direction = boundary_maps(label, spec.num_classes, spec.boundary_void)
        maps = (torch.from_numpy(each.astype(np.int64))[None] for each in (label, depth, direction))
        labels, depths, angles = maps
        found.append(BoundaryLoss(VOID).targets(labels, depths, 2 * angles - 180))
    assert torch.equal(found[0].near, found[1].near)
    assert torch.equal(found[0].direction, found[1].direction)
    near = found[0].near[0].numpy()
    assert (near[raw != 7] == IGNORED).all()
    assert set(near[raw == 7]) == {0, 1} and near[8, 10] == 1 and near[24, 30] == 0


def test_no_predicted_boundary_is_no_nan() -> None:
    outputs, labels, extras = batch(near_boundary=False)
    terms = objective()(outputs, labels, extras)
    terms.total.backward()
    assert terms.terms["direction"] == 0 and torch.isfinite(terms.total)
    assert outputs[DIRECTION].grad is not None and not outputs[DIRECTION].grad.any()


def test_one_class_only_is_no_nan() -> None:
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = weighted_cross_entropy(logits, torch.zeros(1, 4, 4, dtype=torch.long))
    loss.backward()
    assert loss == 0
    nothing = weighted_cross_entropy(logits, torch.full((1, 4, 4), IGNORED))
    assert nothing == 0


def test_boundary_pixels_take_the_scores_of_their_inner_neighbour() -> None:
    scores = torch.arange(12.0).view(1, 1, 3, 4)
    mask = torch.zeros(1, 2, 3, 4)
    mask[0, 1, 1, 1] = mask[0, 1, 0, 3] = 1
    direction = torch.zeros(1, 8, 3, 4)
    direction[0, 6] = 1  # down
    direction[0, 4, 0, 3] = 2  # right, beyond the image
    moved = moved_scores(scores, mask, direction)
    expected = scores.clone()
    expected[0, 0, 1, 1] = scores[0, 0, 2, 1]
    assert torch.equal(moved, expected)


def test_the_weights_scale_the_sum() -> None:
    outputs, labels, extras = batch()
    terms = objective()(outputs, labels, extras)
    parts = terms.terms
    expected = 0.8 * parts["main"] + 5 * parts["mask"] + 0.6 * parts["direction"] + parts["moved"]
    assert torch.isclose(terms.total, expected)


def test_a_network_without_heads_is_named() -> None:
    outputs, labels, extras = batch()
    with pytest.raises(UserError, match="no boundary heads"):
        objective()({PRED: outputs[PRED]}, labels, extras)
