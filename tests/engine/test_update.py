# SPDX-License-Identifier: Apache-2.0
"""Steps that are left out change nothing, and steps after them are those of a run without them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from assembly.optimiser import make_optimizer
from engine.feed import Group
from engine.loop import Trainer
from engine.meter import Meter
from engine.optim import WeightAverage, arrange_moments
from engine.resume_optimizer import check_optimizer, load_optimizer
from engine.statistics import Statistics
from runtime.runlog import RunLog
from settings.kinds import OPTIMISERS
from tests.engine.test_loop import Tiny, make_trainer, pictures

BAD = torch.full((1, 3, 8, 8), torch.nan)


def trained(name: str, images: list[Tensor], log: RunLog, **settings: Any) -> Trainer:
    """After one step for each of `images`; every label is 0, whatever its place."""
    torch.manual_seed(1)
    net = Tiny()
    trainer = make_trainer(images, log, net, **settings)
    options = {"momentum": 0.9} if name == "sgd" else {}
    trainer.state.optimizer = make_optimizer(
        net.parameters(), name, lr=0.1, weight_decay=0.01, **options
    )
    trainer.state.ema = WeightAverage(net, 0.9)
    for batch in trainer.loader:
        batch.labels = torch.zeros_like(batch.labels)
        trainer._step(Group([batch], 1), Meter())
        trainer.state.progress.iteration += 1
    return trainer


def values(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every tensor and number of a state, with its place."""
    if isinstance(content, dict):
        for key, item in content.items():
            yield from values(item, f"{path}.{key}")
    elif isinstance(content, list | tuple):
        yield from values(dict(enumerate(content)), path)
    else:
        yield path, content


def everything(trainer: Trainer) -> dict[str, Any]:
    """A copy of weights, buffers, moments and average."""
    state = trainer.state
    assert state.ema is not None
    parts = (state.net.state_dict(), state.optimizer.state_dict(), state.ema.state_dict())
    return dict(values(copy.deepcopy(parts)))


def assert_same(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert got.keys() == want.keys()
    for key, value in want.items():
        same = torch.equal(got[key], value) if isinstance(value, Tensor) else got[key] == value
        assert same, key


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("place", [0, 1, 7])
def test_training_with_a_bad_batch_is_training_without_it(
    name: str, place: int, log: RunLog
) -> None:
    """Also before the first step, and for RAdam before and after it starts to rectify."""
    images = pictures(9)
    with_bad = [*images[:place], BAD, BAD, *images[place:]]
    got, want = trained(name, with_bad, log), trained(name, images, log)
    assert_same(everything(got), everything(want))
    got.update.report()
    assert got.state.progress.skipped == 2


def test_the_scale_of_fp16_is_halved_by_a_step_that_is_left_out(log: RunLog) -> None:
    trainer = trained("sgd", pictures(1), log)
    trainer.state.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = everything(trainer)
    trainer.loader.images = [BAD]
    trainer._step(Group(list(trainer.loader), 1), Meter())
    assert trainer.state.scaler.get_scale() == 512.0
    assert_same(everything(trainer), before)


def test_a_gradient_too_large_for_its_norm_is_left_out(log: RunLog) -> None:
    """Every number is finite, their squares are not; clipping would make zeros of them."""
    trainer = trained("sgd", pictures(1), log, clip_grad=1.0)
    before = everything(trainer)
    for item in trainer.update.parameters:
        item.grad = torch.full_like(item, 1e30)
    trainer.update.begin()
    trainer.update.finish()
    assert_same(everything(trainer), before)


def test_steps_that_were_left_out_are_named_when_somebody_asks(log: RunLog) -> None:
    images = pictures(5)
    images[1] = images[3] = BAD
    trainer = trained("sgd", images, log)
    path = log.directory / "logging.log"
    assert "skipped" not in path.read_text()
    trainer._save(0)
    lines = [line for line in path.read_text().splitlines() if "step skipped" in line]
    assert len(lines) == 2
    assert "step 1: gradient is not finite, step skipped (1 so far)" in lines[0]
    assert "step 3: gradient is not finite, step skipped (2 so far)" in lines[1]
    saved = torch.load(next(log.directory.glob("last_*.pth")), weights_only=True)
    assert saved["progress"]["skipped"] == 2


class Norms(nn.Module):
    """So many norms behind one another, in the number format of a network with constants."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.norms = nn.Sequential(*(nn.BatchNorm2d(3) for _ in range(count)))
        self.register_buffer("table", torch.full((2, 3), -torch.inf))
        self.register_buffer("size", torch.tensor(7), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return torch.as_tensor(self.norms(images))


def test_statistics_are_taken_back_into_the_buffers_of_the_network() -> None:
    net = Norms(2).train()
    statistics = Statistics(net)
    held = dict(net.named_buffers())
    before = {name: value.clone() for name, value in held.items()}
    statistics.remember()
    net(torch.full((2, 3, 8, 8), torch.nan))
    after = {name: value.clone() for name, value in held.items()}
    assert after["norms.0.running_mean"].isnan().all()
    statistics.restore(torch.tensor(False))
    for name, value in net.named_buffers():
        assert value is held[name]
        torch.testing.assert_close(value, after[name], rtol=0, atol=0, equal_nan=True)
    statistics.restore(torch.tensor(True))
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())
    assert held["norms.1.num_batches_tracked"].item() == 0


class Work(TorchDispatchMode):
    """Counts operations that read or write values; views are none."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.is_mutable or not any(each.alias_info for each in func._schema.returns):
            self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def test_taking_back_is_as_many_operations_for_many_layers_as_for_one() -> None:
    def operations(count: int) -> list[str]:
        statistics, skipped = Statistics(Norms(count)), torch.tensor(False)
        with Work() as work:
            statistics.remember()
            statistics.restore(skipped)
        return work.names

    assert operations(40) == operations(1)
    assert len(operations(1)) == 2 * 4  # for floats, and for counters


@pytest.mark.parametrize("name", OPTIMISERS)
def test_moments_of_another_memory_format_belong_to_the_same_weights(name: str) -> None:
    """Fused steps on a CPU read memory as it lies, whatever the strides say."""
    options = {"momentum": 0.9} if name == "sgd" else {}
    weight = torch.randn(4, 3, 2, 2)
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        item = weight.clone().requires_grad_()
        item.grad = torch.ones_like(item) * weight.flip(0)
        first = make_optimizer([item], name, lr=0.1, **options)
        first.step()
        other = item.detach().clone(memory_format=layout).requires_grad_()
        other.grad = item.grad.clone(memory_format=layout)
        second = make_optimizer([other], name, lr=0.1, **options)
        load_optimizer(second, first.state_dict())
        second.step()
        results.append(other.detach().contiguous())
    torch.testing.assert_close(results[1], results[0])


PLAIN: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, momentum=0.9),
    "adam": torch.optim.Adam,
    "radam": partial(torch.optim.RAdam, decoupled_weight_decay=True),
    "adamw": torch.optim.AdamW,
}


def of_kind(name: str, kind: str, item: Tensor) -> torch.optim.Optimizer:
    """Ours, or the one that torch makes by default."""
    if kind == "plain":
        return PLAIN[name]([item], lr=0.1, weight_decay=0.01)
    options = {"momentum": 0.9} if name == "sgd" else {}
    return make_optimizer([item], name, lr=0.1, weight_decay=0.01, **options)


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("steps", [0, 2, 7])
def test_files_of_plain_optimisers_and_of_ours_go_on_in_one_another(name: str, steps: int) -> None:
    results = []
    for kinds in (("plain", "plain"), ("plain", "ours"), ("ours", "plain"), ("ours", "ours")):
        torch.manual_seed(0)
        item = torch.tensor([1.0, -2.0], requires_grad=True)
        first, second = (of_kind(name, kind, item) for kind in kinds)
        for optimizer in [first] * steps + [second] * 3:
            if optimizer is second and first is not second:
                saved = copy.deepcopy(first.state_dict())
                check_optimizer(second, saved)
                load_optimizer(second, saved)
                own = second.param_groups[0].get("fused")
                assert own == of_kind(name, kinds[1], item).param_groups[0].get("fused")
                first = second
            item.grad = torch.randn(2)
            optimizer.step()
        results.append((item.detach().clone(), second.state_dict()["state"]))
    for got in results[1:]:
        torch.testing.assert_close(got, results[0])


def test_a_weight_without_momentum_yet_gets_zeros() -> None:
    item = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([item], lr=0.1, momentum=0.9, fused=True)
    arrange_moments(optimizer)
    assert optimizer.state[item]["momentum_buffer"].tolist() == [0.0] * 3
    plain = torch.optim.SGD([item], lr=0.1)
    arrange_moments(plain)
    assert not plain.state
