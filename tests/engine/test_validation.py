# SPDX-License-Identifier: Apache-2.0
"""Validations and checkpoints: whatever ends a validation, no training and no row is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.loop import Trainer
from engine.state import Progress
from runtime.outcome import Interrupted, StopFlag, stop_between
from runtime.runlog import RunLog
from tests.engine.test_loop import Tiny, make_trainer, pictures

BY_EPOCH, BY_STEP = {"max_epoch": 3}, {"max_epoch": 100, "max_iter": 6, "val_iters": 2}
MODES = pytest.mark.parametrize("settings", [BY_EPOCH, BY_STEP], ids=["epochs", "steps"])


class Broken(Exception):
    """What ends a validation in these tests."""


def train(
    log: RunLog, settings: dict[str, int], score: Callable[[int], float], resume: bool = False
) -> Trainer:
    """Train two steps an epoch; `score(n)` is what the n-th validation of the run gives."""
    trainer = make_trainer(pictures(2), log, Tiny(), **settings)
    if resume:
        content = newest(log.directory)
        trainer.state.net.load_state_dict(content["state_dict"])
        trainer.state.progress = Progress(**content["progress"])

    def validate(epoch: int) -> dict[str, float]:
        progress = trainer.state.progress
        value = score(progress.iteration // 2)
        number = progress.iteration if "val_iters" in settings else epoch
        log.metric("val", {"mean_iu": value}, number)
        if resume is False and score(-1) == progress.iteration // 2:
            raise Broken
        return {"mean_iu": value}

    trainer.validate = validate
    trainer.fit()
    return trainer


def newest(directory: Path) -> dict:
    found = sorted(directory.glob("last_checkpoint_ep*.pth"))
    assert len(found) == 1
    return torch.load(found[0], weights_only=True)


def best(directory: Path) -> dict:
    found = list(directory.glob("best_checkpoint_ep*.pth"))
    assert len(found) == 1
    return torch.load(found[0], weights_only=True)


def rows(directory: Path) -> list[tuple[float, float]]:
    """Number and score of every val row."""
    lines = (directory / "metrics.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines if line.startswith("val")]
    return [(float(c[c.index("epoch") + 1]), float(c[c.index("mean_iu") + 1])) for c in cells]


@MODES
def test_a_validation_that_fails_has_its_checkpoint_and_is_made_up_for(
    log: RunLog, settings: dict[str, int]
) -> None:
    def fails_at_two(number: int) -> float:
        if number == 2:
            raise Broken
        return 0.1 * number

    with pytest.raises(Broken):
        train(log, settings, fails_at_two)
    content = newest(log.directory)
    assert content["progress"]["iteration"] == 4
    assert content["progress"]["validated"] == 2
    assert best(log.directory)["progress"]["best"] == pytest.approx(0.1)
    trainer = train(log, settings, lambda number: 0.1 * number, resume=True)
    assert trainer.state.progress.iteration == 6
    numbers = [2.0, 4.0, 6.0] if "val_iters" in settings else [0.0, 1.0, 2.0]
    assert rows(log.directory) == [(n, pytest.approx(0.1 * k)) for k, n in enumerate(numbers, 1)]


@MODES
def test_a_run_killed_after_the_row_neither_repeats_nor_loses_it(
    log: RunLog, settings: dict[str, int]
) -> None:
    """The row of the second validation is written, the best checkpoint is not."""
    scores = {1: 0.5, 2: 0.7, 3: 0.6, -1: 2.0}
    with pytest.raises(Broken):
        train(log, settings, scores.__getitem__)
    assert best(log.directory)["progress"]["best"] == 0.5
    calls = []

    def counted(number: int) -> float:
        calls.append(number)
        return scores[number]

    trainer = train(log, settings, counted, resume=True)
    assert calls == [3]
    assert [score for _, score in rows(log.directory)] == [0.5, 0.7, 0.6]
    assert trainer.state.progress.best == 0.7
    kept = best(log.directory)
    assert kept["progress"]["best"] == kept["mean_iu"] == 0.7
    assert kept["progress"]["validated"] == kept["progress"]["iteration"] == 4


@MODES
def test_rows_after_the_checkpoint_are_written_again_not_twice(
    log: RunLog, settings: dict[str, int]
) -> None:
    train(log, settings, lambda number: 0.5)
    whole = rows(log.directory)
    path = next(log.directory.glob("best_checkpoint_ep*.pth"))
    for last in log.directory.glob("last_checkpoint_ep*.pth"):
        last.unlink()
    path.rename(path.with_name(path.name.replace("best", "last")))
    with (log.directory / "metrics.csv").open("a") as file:
        file.write("val,mean_iu,0.5,epo")
    log.close()
    log.open({})
    train(log, settings, lambda number: 0.5, resume=True)
    assert rows(log.directory) == whole
    text = (log.directory / "metrics.csv").read_text()
    assert "epo\n" not in text and "epostart" not in text


def test_the_best_checkpoint_holds_its_own_score_and_is_the_last_one_too(log: RunLog) -> None:
    train(log, {"max_epoch": 1}, lambda number: 0.25)
    content = best(log.directory)
    assert content["progress"]["best"] == content["__metric"] == 0.25
    assert content["progress"]["best_epoch"] == 0
    names = ("best_checkpoint_ep0.pth", "last_checkpoint_ep0.pth")
    assert os.path.samefile(*(log.directory / name for name in names))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_never_best(log: RunLog, bad: float) -> None:
    scores = {1: 0.25, 2: bad, 3: 0.2}
    trainer = train(log, BY_EPOCH, lambda number: scores.get(number, 0.0))
    assert trainer.state.progress.best == 0.25
    assert [path.name for path in log.directory.glob("best*")] == ["best_checkpoint_ep0.pth"]
    assert "the best checkpoint stays as it is" in (log.directory / "logging.log").read_text()


def test_without_any_score_there_is_no_best_checkpoint(log: RunLog) -> None:
    trainer = train(log, {"max_epoch": 1}, lambda number: float("nan"))
    assert not trainer.state.progress.has_best
    assert not list(log.directory.glob("best*"))
    assert '"best": null' in (log.directory / "status.json").read_text()


def test_training_draws_the_same_numbers_whatever_a_validation_draws(log: RunLog) -> None:
    torch.manual_seed(0)
    trainer = make_trainer(pictures(2), log, Tiny(), max_epoch=2)
    trainer.validate = lambda epoch: {"mean_iu": float(torch.rand(()))}
    before = torch.get_rng_state()
    trainer.fit()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_logged_loss_is_the_mean_over_the_batches_of_a_step(
    log: RunLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every term, too; without updates the batches can be asked one by one."""
    logged = []
    monkeypatch.setattr(log, "metric", lambda phase, values, step: logged.append(values))
    images = pictures(4)
    for number in range(4):
        images[number] = images[number] * (number + 1)
    losses = []
    net = Tiny()
    trainer = make_trainer(images, log, net, accum_steps=4)
    forward = trainer._forward

    def noted(batch):
        loss = forward(batch)
        losses.append(
            {"loss": float(loss.total.detach()), **{k: float(v) for k, v in loss.terms.items()}}
        )
        return loss

    trainer._forward = noted
    trainer.fit()
    means = {name: sum(each[name] for each in losses) / 4 for name in losses[0]}
    assert len({each["loss"] for each in losses}) == 4
    assert logged[0] == pytest.approx({**means, "lr": 0.1}, rel=1e-6)


def test_a_stopped_run_ends_its_validation_between_two_batches() -> None:
    seen: list[int] = []
    report = stop_between(lambda done, total: seen.append(done))
    stop = StopFlag()
    report(1, 3)
    stop.is_set = True
    with pytest.raises(Interrupted, match="saved before it"):
        report(2, 3)
    assert seen == [1]
