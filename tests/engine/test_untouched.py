# SPDX-License-Identifier: Apache-2.0
"""Steps inside `untouched` leave a training as it was, to the last bit."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assembly.optimiser import make_optimizer
from engine.loop import Trainer
from engine.optim import WeightAverage
from engine.untouched import untouched
from runtime.runlog import RunLog
from settings.kinds import OPTIMISERS
from tests.engine.test_loop import Batches, make_trainer, pictures


class Noisy(nn.Module):
    """Batch norm counts, dropout draws from torch's generator."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.drop = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.5)

    def forward(self, images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        random.random(), np.random.rand()
        return {"pred": self.drop(self.bn(self.conv(images)))}


def state_of(trainer: Trainer) -> dict[str, Any]:
    """All that a checkpoint would hold, in memory of its own."""
    return copy.deepcopy(trainer.state.pack())


def assert_same(one: object, other: object, where: str = "state") -> None:
    """Equal to the last bit, and of the same structure."""
    if isinstance(one, dict):
        assert isinstance(other, dict) and one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert isinstance(other, list | tuple) and len(one) == len(other), where
        for number, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            assert_same(mine, theirs, f"{where}.{number}")
    elif isinstance(one, Tensor):
        assert isinstance(other, Tensor) and torch.equal(one, other), where
    else:
        assert one == other, where


def with_optimizer(log: RunLog, name: str) -> Trainer:
    trainer = make_trainer(pictures(3), log, Noisy(), ema=0.9)
    trainer.state.optimizer = make_optimizer(
        trainer.state.net.parameters(), name, lr=0.1, weight_decay=0.1
    )
    trainer.state.optimizer.param_groups[0]["initial_lr"] = 0.1
    trainer.schedule = lambda iteration, epoch, base: base / (iteration + 2)
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    return trainer


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("steps_before", [0, 2])
def test_a_step_leaves_no_trace_and_the_next_one_is_the_same(
    log: RunLog, name: str, steps_before: int
) -> None:
    batch = next(iter(Batches(pictures(1))))
    trainer = with_optimizer(log, name)
    for _ in range(steps_before):
        trainer.try_step([batch])
    before = state_of(trainer)
    with untouched(trainer.state) as copied:
        for _ in range(3):
            trainer.try_step([batch])
        assert not torch.equal(
            trainer.state.net.conv.weight, before["live_state_dict"]["conv.weight"]
        )
    assert copied > 0
    assert_same(state_of(trainer), before)
    assert all(item.grad is None for item in trainer.state.net.parameters())
    trainer.try_step([batch])
    after = state_of(trainer)
    fresh = with_optimizer(log, name)
    for _ in range(steps_before + 1):
        fresh.try_step([batch])
    assert_same(after, state_of(fresh))


def test_an_error_in_the_middle_of_a_step_leaves_no_trace_either(log: RunLog) -> None:
    trainer = with_optimizer(log, "adamw")
    batch = next(iter(Batches(pictures(1))))
    before, modes = state_of(trainer), [part.training for part in trainer.state.net.modules()]
    with pytest.raises(MemoryError), untouched(trainer.state):
        trainer.try_step([batch])
        trainer.state.net.eval()
        (trainer.state.net.conv.weight * 2).sum().backward()
        trainer.state.progress.skipped += 1
        raise MemoryError
    assert_same(state_of(trainer), before)
    assert [part.training for part in trainer.state.net.modules()] == modes
    assert all(item.grad is None for item in trainer.state.net.parameters())


def test_the_scale_of_the_loss_and_frozen_buffers_are_put_back(log: RunLog) -> None:
    trainer = with_optimizer(log, "sgd")
    trainer.state.scaler = torch.amp.GradScaler("cpu", enabled=True, init_scale=4.0)
    broken = next(iter(Batches([torch.full((1, 3, 8, 8), float("nan"))])))
    before = state_of(trainer)
    with untouched(trainer.state):
        trainer.try_step([broken])
        trainer.update.report()
        assert trainer.state.progress.skipped == 1 and trainer.state.scaler.get_scale() < 4
    assert_same(state_of(trainer), before)


def test_an_average_is_put_back_with_its_count(log: RunLog) -> None:
    trainer = with_optimizer(log, "sgd")
    trainer.state.ema = WeightAverage(trainer.state.net, 0.5)
    with untouched(trainer.state):
        trainer.try_step([next(iter(Batches(pictures(1))))])
        assert int(trainer.state.ema.n_averaged) == 1
    assert int(trainer.state.ema.n_averaged) == 0
