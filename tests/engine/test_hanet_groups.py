# SPDX-License-Identifier: Apache-2.0
"""Rates, decays and schedules of HANet's parameter groups."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from assembly.rates import build_schedule, group_schedules
from config import UserError
from engine.hanet_groups import SCHEDULE, hanet_groups
from engine.state import Progress, TrainState
from settings import Settings
from settings.catalogue import with_values
from tests.parity.fixture import FIXTURES

POLY = json.loads((FIXTURES / "hanet" / "functions.json").read_text())["poly"]


class Net(nn.Module):
    """Names as in a HANet network, one weight each."""

    def __init__(self, blocks: bool = True) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({f"layer{n}": nn.Linear(1, 1, bias=False) for n in range(5)})
        self.final = nn.Linear(1, 1, bias=False)
        if blocks:
            self.hanet0 = nn.Linear(1, 1, bias=False)
            self.hanet3 = nn.Linear(1, 1, bias=False)


def groups(net: nn.Module, **rates: float) -> list[dict]:
    return hanet_groups(net.named_parameters(), lr=0.01, weight_decay=5e-4, **rates)


def test_blocks_have_their_rate_decay_and_schedule() -> None:
    rest, blocks = groups(Net(), hanet_lr=0.02, hanet_wd=1e-4)
    assert (len(rest["params"]), len(blocks["params"])) == (6, 2)
    assert (rest["initial_lr"], rest["weight_decay"], "schedule" in rest) == (0.01, 5e-4, False)
    assert (blocks["initial_lr"], blocks["weight_decay"]) == (0.02, 1e-4)
    assert blocks["schedule"] == SCHEDULE


def test_rates_of_named_groups_stand_beside_that_of_the_rest() -> None:
    net = Net()
    optimizer = torch.optim.SGD(groups(net, hanet_lr=0.02, backbone_lr=0.001), lr=0.01)
    scaler, progress = torch.amp.GradScaler("cpu", enabled=False), Progress()
    state = TrainState(
        net=net, optimizer=optimizer, scaler=scaler, ema=None, progress=progress, facts={}
    )
    assert state.rates == {"lr": 0.01, "lr_hanet": 0.02, "lr_backbone": 0.001}


def test_early_stages_have_their_rate_and_the_decay_of_the_rest() -> None:
    rest, early = groups(Net(), backbone_lr=0.001)
    assert (len(rest["params"]), len(early["params"])) == (6, 2)
    assert (early["lr"], early["weight_decay"]) == (0.001, 5e-4)


def test_without_own_rates_there_is_one_group() -> None:
    (every,) = groups(Net())
    assert len(every["params"]) == 8


def test_rates_of_absent_parts_are_errors() -> None:
    with pytest.raises(UserError, match="--hanet_lr 0.01: the network has no HANet block"):
        groups(Net(blocks=False), hanet_lr=0.01)
    with pytest.raises(UserError, match="--backbone_lr 0.1: the network has no layer0"):
        hanet_groups(nn.Linear(1, 1).named_parameters(), lr=1, weight_decay=0, backbone_lr=0.1)


def test_groups_survive_the_state_of_an_optimiser() -> None:
    net = Net()
    optimizer = torch.optim.SGD(groups(net, hanet_lr=0.02), lr=0.01, momentum=0.9)
    again = torch.optim.SGD(groups(net, hanet_lr=0.5), lr=0.01, momentum=0.9)
    again.load_state_dict(optimizer.state_dict())
    assert again.param_groups[1]["schedule"] == SCHEDULE
    assert again.param_groups[1]["initial_lr"] == 0.02


def flags(**changes: object) -> Settings:
    """Settings of a run of 40000 iterations with the poly schedule by iteration."""
    fixed = {"lr_by": "iter", "max_iter": 40000, "poly_exp": 0.9, "lr": 0.01}
    return with_values(Settings(), {**fixed, **changes})


@pytest.mark.parametrize("case", POLY, ids=[str(number) for number in range(len(POLY))])
def test_rates_are_the_recorded_ones(case: dict) -> None:
    told = flags(max_iter=case["max_iter"], poly_exp=case["exp"])
    rate = build_schedule(told, 100)(case["iter"], 0, case["lr"])
    assert rate == pytest.approx(case["value"], rel=1e-9)


def test_blocks_have_an_exponent_of_their_own_only_when_asked() -> None:
    assert group_schedules(flags(), 100) == {}
    own = group_schedules(flags(hanet_poly_exp=2.0), 100)[SCHEDULE]
    assert own(20000, 0, 0.02) == pytest.approx(0.02 * 0.25)


def test_scl_poly_starts_again_at_its_iteration() -> None:
    told = flags(lr_schedule="scl-poly", rlx_off_iter=30000, rescale=0.5)
    rate = build_schedule(told, 100)
    assert rate(29999, 0, 0.01) == pytest.approx(0.01 * (1 - 29999 / 40000) ** 0.9)
    assert rate(35000, 0, 0.01) == pytest.approx(0.01 * 0.5 * 0.5**1.5)
    with pytest.raises(UserError, match="--rlx_off_iter 50000 is outside 0..39999"):
        build_schedule(flags(lr_schedule="scl-poly", rlx_off_iter=50000), 100)(0, 0, 1.0)
