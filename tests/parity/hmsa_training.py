# SPDX-License-Identifier: Apache-2.0
"""Recorded learning rates and optimiser steps of HMSA."""

from __future__ import annotations

import numpy as np
import torch

from assembly.optimiser import make_optimizer
from engine.schedule import poly, poly2, scl_poly
from tests.parity.core import Check, Row, compare
from tests.parity.fixture import Fixture, Record, first_case

EXACT, STEP_TOLERANCE = 1e-12, 1e-6
START, INPUTS = [0.5, -1.0, 2.0, 0.1], [1.0, 2.0, -1.0, 0.5]


def check_training(fixture: Fixture) -> list[Row]:
    """Learning rates by epoch, and the weights after each optimiser step."""
    rows = []
    for number, case in enumerate(fixture.header.get("schedules", [])):
        options = dict(case["args"].plain())
        name = options.pop("lr_schedule")
        length, power = options["max_epoch"], options["poly_exp"]
        if name == "poly":
            factor = poly(length, power)
        elif name == "poly2":
            factor = poly2(length, power, options["poly_step"])
        else:
            assert name == "scl-poly", name
            factor = scl_poly(
                length,
                start=case["rlx_off_epoch"],
                power=power,
                rescale=options["rescale"],
                second_power=options["repoly"],
            )
        want = case["lr"].plain()
        got = [options["lr"] * factor(int(epoch)) for epoch in want]
        rows.append(compare(f"{fixture.name}/{name} {number}", got, list(want.values()), EXACT))
    for number, case in enumerate(fixture.header.get("optimizers", [])):
        want, name = case["weights_after_each_step"], f"{fixture.name}/{case['optimizer']} {number}"
        got = optimizer_steps(case, len(want))
        rows.append(compare(name, got, want, STEP_TOLERANCE, STEP_TOLERANCE))
    return rows


def optimizer_steps(case: Record, count: int) -> np.ndarray:
    """Weights (count, 4) after each step on (w . x_i)^2."""
    weights = torch.tensor(START, requires_grad=True)
    optimizer = make_optimizer(
        [weights],
        case["optimizer"],
        lr=case["lr"],
        weight_decay=case["weight_decay"],
        **({"momentum": 0.9} if case["optimizer"] == "sgd" else {}),
        **({"amsgrad": True} if case.get("amsgrad") else {}),
    )
    seen = []
    for i in range(count):
        optimizer.zero_grad()
        inputs = torch.tensor([*INPUTS[:3], INPUTS[3] + 0.1 * i])
        ((weights * inputs).sum() ** 2).backward()
        optimizer.step()
        seen.append(weights.detach().numpy().copy())
    return np.stack(seen)


def is_training(fixture: Fixture) -> bool:
    steps = first_case(fixture, "optimizers")
    return "weights_after_each_step" in steps or "args" in first_case(fixture, "schedules")


CHECKS = (
    Check(
        "hmsa schedules and optimisers",
        is_training,
        check_training,
        {
            "schedules.*.args.*": "a setting, some of which only other schedules read",
            "schedules.*.rlx_off_epoch": "a setting that only one schedule reads",
        },
    ),
)
