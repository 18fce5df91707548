# SPDX-License-Identifier: Apache-2.0
"""Recorded gradients of a UN-EPT network together with its loss."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from network.convert import load_official
from network.outputs import DIRECTION, MASK, PRED
from tests.parity import recipe
from tests.parity.core import Check, Row, compare, same
from tests.parity.fixture import CannotRun, Fixture
from tests.parity.networks import draw_images, own_manifest
from tests.parity.unept_networks import build, is_unept, watched


def published_loss(outputs: Mapping[str, Tensor], fixture: Fixture) -> Tensor:
    """The recorded loss: no boundary logit is above 0.5 here, so the refinement moves nothing."""
    label, distance, angle = (
        torch.from_numpy(fixture.arrays[key].astype(np.int64))[:, 0]
        for key in ("label", "distance", "angle")
    )
    mask, direction = (
        F.interpolate(outputs[key], label.shape[-2:], mode="bilinear", align_corners=True)
        for key in (MASK, DIRECTION)
    )
    if float(mask.detach()[:, 1].max()) >= 0.5:
        raise CannotRun(
            "config: boundary logits above 0.5 would move scores, which is not followed"
        )
    near = ((distance >= 0) & (distance <= 5)).long()
    octant = torch.ceil((angle.double() + 180 - 22.5) / 45).long() % 8
    octant[mask.softmax(1)[:, 1] <= 0.5] = -1

    def balanced(logits: Tensor, target: Tensor) -> Tensor:
        count = torch.bincount(target[target >= 0], minlength=logits.shape[1])
        return F.cross_entropy(logits, target, (1 - count / count.sum()).float(), ignore_index=-1)

    classes = F.cross_entropy(outputs[PRED], label, ignore_index=255, reduction="none").mean()
    return 1.8 * classes + 5 * balanced(mask, near) + 0.6 * balanced(direction, octant)


def misread(gradient: Tensor) -> Tensor:
    """What torch's CPU batch norm made of the gradient of the spatial branch when it was recorded.

    For one image it took the memory of a (cells, channels) gradient for (channels, cells).
    """
    return gradient.flatten(2).transpose(1, 2).reshape(gradient.shape)


def check_gradients(fixture: Fixture) -> list[Row]:
    """Loss and length of the gradient of every parameter, in eval mode.

    differs: below the spatial branch the recorded lengths are those of a misread gradient, while
    ours is right; for the comparison it is misread too.
    """
    header, tolerance = fixture.header, fixture.header["tolerance"]
    net = build(header, boundary_heads=True)
    state = recipe.fill(own_manifest(net), header["gain"])
    load_official(net, {key: torch.from_numpy(value) for key, value in state.items()})
    with watched({"spatial": net.spatial_branch}) as seen:
        outputs = net(draw_images(header["input"]), return_all=True)
    spatial = seen["spatial"]
    spatial.retain_grad()
    loss = published_loss(outputs, fixture)
    loss.backward(retain_graph=True)
    net.spatial_branch.zero_grad()
    spatial.backward(misread(spatial.grad))
    rows = [compare(fixture.name, loss.item(), header["loss"], rtol=tolerance["loss_rtol"])]
    lengths = {
        name: float(item.grad.norm())
        for name, item in net.named_parameters()
        if item.grad is not None
    }
    recorded = header["gradient_l2"].plain()
    rows.append(same(f"{fixture.name}/names", sorted(lengths), sorted(recorded)))
    limits = tolerance["gradient_atol"], tolerance["gradient_rtol"]
    return rows + [
        compare(f"{fixture.name}/{key}", lengths[key], want, *limits)
        for key, want in recorded.items()
        if key in lengths
    ]


CHECKS = (
    Check(
        "unept gradients",
        lambda fixture: is_unept(fixture) and "gradient_l2" in fixture.header,
        check_gradients,
        {
            "arch": "what it is called; the config builds it",
            "input.seed": "the first of the seeds",
            "config.batch": "as many as there are seeds",
        },
    ),
)
