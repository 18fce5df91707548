# SPDX-License-Identifier: Apache-2.0
"""What `--shard` stores and takes back, for every optimiser, in a group of one process."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from assembly.optimiser import make_optimizer
from engine.optim import WeightAverage
from engine.resume_optimizer import check_optimizer, load_optimizer
from engine.sharded import Sharded
from engine.state import Progress, TrainState
from engine.update import Update
from engine.whole import WHOLE, Whole
from runtime.distributed import World
from settings.kinds import OPTIMISERS

pytestmark = pytest.mark.slow


@pytest.fixture
def sharded() -> Iterator[Sharded]:
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    yield Sharded(World(rank=0, size=1, local_rank=0, device=torch.device("cpu")))
    dist.destroy_process_group()


class Block(nn.Module):
    """A convolution and its norm; in a sequence it becomes a unit."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.norm(self.conv(images)))


class Net(nn.Module):
    """Two blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stages, self.head = nn.Sequential(Block(), Block()), nn.Conv2d(3, 2, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.head(self.stages(images)))


def train(net: nn.Module, optimizer: torch.optim.Optimizer, ema: WeightAverage, count: int) -> None:
    torch.manual_seed(1)
    for _ in range(count):
        net(torch.rand(2, 3, 8, 8)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update_parameters(net)


def start(name: str, holding: Whole) -> tuple[Net, torch.optim.Optimizer, WeightAverage]:
    net = Net()
    ema = WeightAverage(net, 0.9, holding)
    holding.shard(ema.module)
    holding.shard(net)
    optimizer = make_optimizer(net.parameters(), name, lr=0.01, weight_decay=0.1, holding=holding)
    return net, optimizer, ema


@pytest.mark.parametrize("name", list(OPTIMISERS))
def test_states_are_those_of_whole_weights_and_go_on_in_both_modes(
    sharded: Sharded, name: str
) -> None:
    states = {}
    for first, second in ((WHOLE, WHOLE), (sharded, WHOLE), (WHOLE, sharded)):
        net, optimizer, ema = start(name, first)
        train(net, optimizer, ema, 2)
        weights = first.whole_state(net.state_dict())
        average = first.whole_state(ema.module.state_dict())
        saved = first.whole_state(optimizer.state_dict())
        net, optimizer, ema = start(name, second)
        check_optimizer(optimizer, saved)
        second.load_weights(net, weights)
        second.load_weights(ema.module, average)
        ema.n_averaged.fill_(2)
        load_optimizer(optimizer, saved, second)
        train(net, optimizer, ema, 2)
        states[first, second] = (
            second.whole_state(net.state_dict()),
            second.whole_state(ema.module.state_dict()),
            second.whole_state(optimizer.state_dict()),
        )
    wanted = states[WHOLE, WHOLE]
    for got in states.values():
        torch.testing.assert_close(got[0], wanted[0])
        torch.testing.assert_close(got[1], wanted[1])
        groups, wanted_groups = (
            [{**group, "fused": None} for group in each[2]["param_groups"]]  # SGD has no such step
            for each in (got, wanted)
        )
        assert groups == wanted_groups
        torch.testing.assert_close(got[2]["state"], wanted[2]["state"])


@pytest.mark.parametrize("name", list(OPTIMISERS))
def test_a_step_that_is_left_out_changes_no_part(sharded: Sharded, name: str) -> None:
    net, optimizer, ema = start(name, sharded)
    state = TrainState(
        net=net, optimizer=optimizer, scaler=torch.amp.GradScaler("cpu", enabled=False), ema=ema,
        progress=Progress(), facts={}, holding=sharded,
    )  # fmt: skip
    lines: list[str] = []
    update = Update(state, 1.0, lines.append)

    def after_step(images: torch.Tensor) -> dict[str, Any]:
        update.begin()
        net(images).square().sum().backward()
        update.finish()
        state.progress.iteration += 1
        parts = (net.state_dict(), ema.state_dict(), optimizer.state_dict())
        return copy.deepcopy(sharded.whole_state(dict(enumerate(parts))))

    before = after_step(torch.rand(2, 3, 8, 8))
    left_out = after_step(torch.full((2, 3, 8, 8), torch.nan))
    torch.testing.assert_close(left_out, before, rtol=0, atol=0)
    after = after_step(torch.rand(2, 3, 8, 8))
    assert not torch.equal(after[0]["head.weight"], before[0]["head.weight"])
    update.report()
    assert lines == ["step 1: gradient is not finite, step skipped (1 so far)"]


def test_a_gathered_network_computes_without_the_others(sharded: Sharded) -> None:
    net, images = Net().eval(), torch.rand(1, 3, 8, 8)
    wanted = net(images)
    sharded.shard(net)
    assert sum(isinstance(each, FSDPModule) for each in net.modules()) == 3
    with sharded.gathered(net), torch.inference_mode():
        for _ in range(2):
            assert torch.equal(net(images), wanted)
            assert not any(isinstance(each, DTensor) for each in net.parameters())
    assert all(isinstance(each, DTensor) for each in net.parameters())
