# SPDX-License-Identifier: Apache-2.0
"""One process, one tiny network: what the loop does with gradients, averages and bad steps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from datasets.batch import Batch
from datasets.samplers import TrainSampler
from engine.compute import Platform
from engine.feed import Feed
from engine.loop import LoopOptions, Trainer
from engine.meter import Meter
from engine.optim import WeightAverage
from engine.state import Progress, TrainState
from engine.update import MAX_SKIPPED_IN_A_ROW
from loss.cross_entropy import CrossEntropy
from loss.objective import Objective
from runtime.distributed import World
from runtime.outcome import Interrupted, StopFlag
from runtime.precision import Precision
from runtime.runlog import RunLog


class Tiny(nn.Module):
    """Three classes from one convolution and one batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        return {"pred": self.bn(self.conv(images))}


class Batches:
    """Stands for a loader: the given images, one batch each."""

    def __init__(self, images: list[Tensor]) -> None:
        self.images = images
        self.generator: torch.Generator | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Batch]:
        for index, image in enumerate(self.images):
            label = torch.full((1, 8, 8), index % 3)
            yield Batch(images=image, labels=label, names=[str(index)], indices=[index])


def make_trainer(
    images: list[Tensor], log: RunLog, net: nn.Module, ema: float | None = None, **settings: object
) -> Trainer:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    average = None
    if ema is not None:
        average = WeightAverage(net, ema)
    state = TrainState(
        net=net, optimizer=optimizer, scaler=torch.amp.GradScaler("cpu", enabled=False),
        ema=average, progress=Progress(), facts={},
    )  # fmt: skip
    sampler = TrainSampler(lambda epoch: [(i, None) for i in range(len(images))], 0, 0, 1, 1)
    return Trainer(
        state=state,
        objective=Objective(CrossEntropy(255), num_classes=3, ignore_label=255),
        feed=Feed(loader=Batches(images), sampler=sampler),
        platform=Platform(
            world=World(rank=0, size=1, local_rank=0, device=torch.device("cpu")),
            precision=Precision("fp32", "cpu"),
        ),
        log=log,
        settings=LoopOptions(**{"max_epoch": 1, **settings}),
        validate=lambda epoch: {"mean_iu": 0.5},
        stop=StopFlag(),
    )


def pictures(count: int) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.rand(1, 3, 8, 8) for _ in range(count)]


def test_a_step_without_finite_gradient_changes_nothing(log: RunLog) -> None:
    net = Tiny()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    poisoned = make_trainer([torch.full((1, 3, 8, 8), float("nan"))], log, net)
    poisoned.fit()
    assert poisoned.state.progress.skipped == 1
    for key, value in net.state_dict().items():
        if value.is_floating_point():
            assert torch.equal(value, before[key]), key
    assert "not finite" in (log.directory / "logging.log").read_text()


def test_training_goes_on_after_a_bad_batch(log: RunLog) -> None:
    images = pictures(4)
    images[1] = torch.full((1, 3, 8, 8), float("inf"))
    net = Tiny()
    start = net.conv.weight.detach().clone()
    trainer = make_trainer(images, log, net)
    trainer.fit()
    assert trainer.state.progress.skipped == 1
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())
    assert not torch.equal(net.conv.weight, start)


def test_divergence_ends_the_run_with_advice(log: RunLog) -> None:
    images = [torch.full((1, 3, 8, 8), float("nan"))] * MAX_SKIPPED_IN_A_ROW
    with pytest.raises(RuntimeError, match="diverged; lower --lr"):
        make_trainer(images, log, Tiny()).fit()


def test_accumulated_steps_equal_the_mean_gradient(log: RunLog) -> None:
    images = pictures(2)
    net = Tiny()
    net.bn.eval()
    net.bn.train = lambda mode=True: net.bn  # statistics would depend on the batch by design
    twin = Tiny()
    twin.load_state_dict(net.state_dict())
    twin.bn.eval()
    make_trainer(images, log, net, accum_steps=2).fit()
    loss = sum(
        nn.functional.cross_entropy(twin(image)["pred"], torch.full((1, 8, 8), index))
        for index, image in enumerate(images)
    )
    (loss / 2).backward()
    expected = twin.conv.weight - 0.1 * twin.conv.weight.grad
    torch.testing.assert_close(net.conv.weight, expected)


def test_weight_average_is_what_is_saved_and_evaluated(log: RunLog) -> None:
    net = Tiny()
    trainer = make_trainer(pictures(4), log, net, ema=0.5)
    assert trainer.state.evaluated is not net
    trainer.fit()
    content = torch.load(log.directory / "last_checkpoint_ep0.pth", weights_only=True)
    saved, live = content["state_dict"]["conv.weight"], content["live_state_dict"]["conv.weight"]
    assert torch.equal(live, net.conv.weight)
    assert not torch.equal(saved, live)


def test_max_iter_ends_inside_an_epoch(log: RunLog) -> None:
    trainer = make_trainer(pictures(5), log, Tiny(), max_epoch=100, max_iter=7)
    trainer.fit()
    assert trainer.state.progress.iteration == 7


def test_best_and_last_checkpoints_are_kept_alone(log: RunLog) -> None:
    scores = iter([0.1, 0.5, 0.2])
    trainer = make_trainer(pictures(2), log, Tiny(), max_epoch=3)
    trainer.validate = lambda epoch: {"mean_iu": next(scores)}
    trainer.fit()
    names = sorted(path.name for path in log.directory.glob("*.pth"))
    assert names == ["best_checkpoint_ep1.pth", "last_checkpoint_ep2.pth"]


def test_validation_by_iteration_comes_at_its_multiples_and_at_the_end(log: RunLog) -> None:
    """Epochs of five steps neither validate nor save."""
    trainer = make_trainer(pictures(5), log, Tiny(), max_epoch=100, max_iter=14, val_iters=4)
    seen = []

    def validate(epoch: int) -> dict[str, float]:
        assert trainer.model.training, "a validation leaves the network as training needs it"
        trainer.state.net.eval()
        progress = trainer.state.progress
        seen.append(
            (epoch, progress.iteration, [path.name for path in log.directory.glob("*.pth")])
        )
        return {"mean_iu": 0.1 * len(seen) if len(seen) < 3 else 0.0}

    trainer.validate = validate
    trainer.fit()
    assert [row[:2] for row in seen] == [(0, 4), (1, 8), (2, 12), (2, 14)]
    assert seen[0][2] == ["last_checkpoint_ep0.pth"], "saved before it is validated"
    progress = trainer.state.progress
    assert (progress.best, progress.best_iteration) == (0.2, 8)


def test_an_end_on_a_multiple_is_validated_once(log: RunLog) -> None:
    trainer = make_trainer(pictures(4), log, Tiny(), max_epoch=100, max_iter=8, val_iters=4)
    calls: list[int] = []
    trainer.validate = lambda epoch: calls.append(epoch) or {"mean_iu": 0.5}
    trainer.fit()
    assert len(calls) == 2
    assert trainer.state.progress.iteration == 8


def test_a_run_stopped_before_its_validation_makes_up_for_it(log: RunLog) -> None:
    trainer = make_trainer(pictures(4), log, Tiny(), max_epoch=100, max_iter=6, val_iters=2)
    calls: list[int] = []

    def validate(epoch: int) -> dict[str, float]:
        calls.append(trainer.state.progress.iteration)
        return {"mean_iu": 0.5}

    trainer.validate = validate
    step = trainer._step

    def stopping_step(group: list[Batch], meter: Meter) -> None:
        trainer.stop.is_set = trainer.state.progress.iteration == 1
        step(group, meter)

    trainer._step = stopping_step
    with pytest.raises(Interrupted):
        trainer.fit()
    assert calls == []
    content = torch.load(log.directory / "last_checkpoint_ep0.pth", weights_only=True)
    resumed = make_trainer(pictures(4), log, Tiny(), max_epoch=100, max_iter=6, val_iters=2)
    resumed.state.net.load_state_dict(content["state_dict"])
    resumed.state.progress = trainer.state.progress
    again: list[int] = []
    resumed.validate = lambda epoch: (
        again.append(resumed.state.progress.iteration) or {"mean_iu": 0.5}
    )
    resumed.fit()
    assert again == [2, 4, 6]


def test_every_group_gets_the_rate_of_its_own_base(log: RunLog) -> None:
    net = Tiny()
    trainer = make_trainer(pictures(2), log, net, max_epoch=1)
    parts = [{"params": [item], "lr": 0.0} for item in net.parameters()]
    optimizer = torch.optim.SGD(parts, lr=0.1)
    for number, group in enumerate(optimizer.param_groups):
        group["initial_lr"] = 0.01 * (number + 1)
    trainer.state.optimizer = optimizer
    trainer.schedule = lambda iteration, epoch, base: base / (iteration + 1)
    trainer.fit()
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == [0.01 * (number + 1) / 2 for number in range(len(rates))]
