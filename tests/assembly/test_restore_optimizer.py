# SPDX-License-Identifier: Apache-2.0
"""`--restore_optimizer`: the state of the same optimiser over the same weights, or one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from assembly.optimiser import build_optimizer
from assembly.snapshot import Snapshot
from config import UserError
from settings import Settings, read_settings


def told(*flags: str) -> Settings:
    return read_settings(["--lr", "0.1", "--snapshot", "x.pth", *flags])


def trained(net: nn.Module, *flags: str) -> dict[str, Any]:
    """The facts of a checkpoint after one step."""
    settings = told(*flags)
    optimizer = build_optimizer(settings, net, 0.1, None)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    kept = {"optimizer": settings.optimiser.optimizer, "amsgrad": settings.optimiser.amsgrad}
    return {"optimizer": optimizer.state_dict(), "settings": kept, "param_rules": []}


def restored(net: nn.Module, facts: dict[str, Any], *flags: str) -> torch.optim.Optimizer:
    settings = told("--restore_optimizer", *flags)
    return build_optimizer(settings, net, 0.1, Snapshot("x.pth", {}, facts))


@pytest.mark.parametrize(
    "flags", ["--optimizer sgd", "--optimizer adam --amsgrad", "--optimizer radam"]
)
def test_the_same_optimiser_goes_on(flags: str) -> None:
    facts = trained(nn.Linear(2, 3), *flags.split())
    optimizer = restored(nn.Linear(2, 3), facts, *flags.split())
    for number, state in facts["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(optimizer.state_dict()["state"][number][name], value)


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ("--optimizer sgd", "--optimizer adam", r"--optimizer sgd \(this run adam\)"),
        ("--optimizer adam", "--optimizer sgd", r"--optimizer adam \(this run sgd\)"),
        ("--optimizer adam", "--optimizer radam", r"--optimizer adam \(this run radam\)"),
        ("--optimizer adam", "--optimizer adam --amsgrad", r"--amsgrad False \(this run True\)"),
        ("--optimizer adamw --amsgrad", "--optimizer adamw", r"--amsgrad True \(this run False\)"),
    ],
)
def test_another_optimiser_is_refused(was: str, now: str, said: str) -> None:
    facts = trained(nn.Linear(2, 3), *was.split())
    with pytest.raises(UserError, match=f"--restore_optimizer: --snapshot was trained with {said}"):
        restored(nn.Linear(2, 3), facts, *now.split())
    facts.pop("settings")  # as in files of earlier versions
    with pytest.raises(UserError, match=said):
        restored(nn.Linear(2, 3), facts, *now.split())


def test_other_weights_are_refused() -> None:
    facts = trained(nn.Linear(2, 3), "--optimizer", "adam")
    with pytest.raises(UserError, match="--restore_optimizer: entry optimizer.state.0.exp_avg"):
        restored(nn.Linear(2, 4), facts, "--optimizer", "adam")
    with pytest.raises(UserError, match="--restore_optimizer: other parameters are trained"):
        restored(nn.Linear(2, 3, bias=False), facts, "--optimizer", "adam")
