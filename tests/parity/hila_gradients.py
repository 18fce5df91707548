# SPDX-License-Identifier: Apache-2.0
"""Recorded gradients of SegFormer and HILA networks."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from tests.parity import recipe
from tests.parity.core import Check, Row, compare, same
from tests.parity.fixture import Fixture, find_fixture
from tests.parity.hila_networks import build, load
from tests.parity.networks import draw_images

IGNORE, SHARE_ATOL = 255, 1e-6


def check_gradients(fixture: Fixture) -> list[Row]:
    """Loss and the norm of the gradient of every parameter of a network with its own fixture."""
    header, tolerance = fixture.header, fixture.header["tolerance"]
    network = find_fixture(fixture.folder, header["arch"])
    net = build(network.header)
    load(net, network)
    spec, classes = header["input"], network.header["num_classes"]
    images = draw_images(spec)
    logits = net(images)["pred"]
    size, first = (spec["height"], spec["width"]), header["label_seed"]
    drawn = [recipe.label(*size, classes, first + i) for i in range(len(images))]
    target = torch.from_numpy(np.stack(drawn))
    loss = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum") / target.numel()
    loss.backward()
    name = fixture.name
    rows = [
        same(f"{name}/gain", network.header["gain"], header.get("gain", network.header["gain"])),
        compare(f"{name}/loss", loss.item(), header["loss"], rtol=tolerance["loss_rtol"]),
    ]
    if "ignored_fraction" in header:
        share = float((target == IGNORE).double().mean())
        rows.append(compare(f"{name}/ignored", share, header["ignored_fraction"], SHARE_ATOL))
    got = {
        key: item.grad.norm().item()
        for key, item in net.named_parameters()
        if item.grad is not None
    }
    want = header["gradient_l2"].plain()
    rows.append(same(f"{name}/names", sorted(got), sorted(want)))
    limits = tolerance["grad_atol"], tolerance["grad_rtol"]
    return rows + [
        compare(f"{name}/{key}", got[key], want[key], *limits) for key in want if key in got
    ]


CHECKS = (
    Check(
        "segformer or hila gradients",
        lambda fixture: "gradient_l2" in fixture.header and "label_seed" in fixture.header,
        check_gradients,
    ),
)
