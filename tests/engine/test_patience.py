# SPDX-License-Identifier: Apache-2.0
"""--patience: training ends after so many validations without a better score."""

from __future__ import annotations

import math

import pytest
import torch

from config import UserError
from engine.loop import Trainer
from engine.state import Progress
from runtime.runlog import RunLog
from settings import read_settings
from tests.engine.test_loop import Tiny, make_trainer, pictures


def scoring(trainer: Trainer, scores: list[float]) -> list[int]:
    """Let validations give `scores` in turn, with their rows; the epochs that were validated."""
    seen: list[int] = []

    def validate(epoch: int) -> dict[str, float]:
        seen.append(epoch)
        values = {"mean_iu": scores[len(seen) - 1]}
        by_steps = trainer.settings.val_iters is not None
        trainer.log.metric("val", values, trainer.state.progress.iteration if by_steps else epoch)
        return values

    trainer.validate = validate
    return seen


def saved(log: RunLog, name: str) -> dict:
    return torch.load(log.directory / name, weights_only=True)


@pytest.mark.parametrize(
    ("scores", "validations"),
    [
        ([0.5, 0.6, 0.6, 0.5, 0.9], 4),
        ([0.5, 0.4, 0.6, 0.5, 0.7, 0.1, 0.1], 7),
        ([math.nan, math.nan], 2),
    ],
)
def test_training_ends_after_so_many_validations_without_a_better_one(
    log: RunLog, scores: list[float], validations: int
) -> None:
    trainer = make_trainer(pictures(2), log, Tiny(), max_epoch=50, patience=2)
    seen = scoring(trainer, scores)
    trainer.fit()
    assert seen == list(range(validations)) and trainer.stopped_early
    assert (trainer.state.progress.epoch, trainer.state.progress.waited) == (validations, 2)
    assert (log.directory / f"last_checkpoint_ep{validations - 1}.pth").exists()


def test_without_it_no_number_of_validations_ends_training(log: RunLog) -> None:
    trainer = make_trainer(pictures(2), log, Tiny(), max_epoch=5)
    seen = scoring(trainer, [0.5, 0.4, 0.3, 0.2, 0.1])
    trainer.fit()
    assert len(seen) == 5 and not trainer.stopped_early


def test_a_resumed_run_goes_on_counting(log: RunLog) -> None:
    """Also the validation that came after the checkpoint it starts from."""
    first = make_trainer(pictures(2), log, Tiny(), max_epoch=3, patience=4)
    scoring(first, [0.5, 0.4, 0.4])
    first.fit()
    content = saved(log, "last_checkpoint_ep2.pth")
    assert content["progress"]["waited"] == 1, "written before its own validation"
    again = make_trainer(pictures(2), log, Tiny(), max_epoch=50, patience=4)
    again.state.progress = Progress(**content["progress"])
    seen = scoring(again, [0.4, 0.4])
    again.fit()
    assert seen == [3, 4] and again.stopped_early
    ended = make_trainer(pictures(2), log, Tiny(), max_epoch=50, patience=4)
    content = saved(log, "last_checkpoint_ep4.pth")
    ended.state.progress = Progress(**content["progress"])
    seen = scoring(ended, [])
    ended.fit()
    assert seen == [] and ended.state.progress.epoch == 5, "resumed after its end, it is at its end"


def test_a_file_of_earlier_versions_has_waited_for_nothing() -> None:
    content = {name: value for name, value in vars(Progress()).items() if name != "waited"}
    assert Progress(**content).waited == 0


def test_inside_an_epoch_it_ends_there_and_more_patience_goes_on_from_there(log: RunLog) -> None:
    images, options = pictures(5), {"max_epoch": 2, "val_iters": 1}
    part = make_trainer(images, log, Tiny(), patience=2, **options)
    scoring(part, [0.5, 0.5, 0.5])
    part.fit()
    assert (part.state.progress.epoch, part.state.progress.step) == (0, 3)
    content = saved(log, "last_checkpoint_ep0.pth")
    assert (content["progress"]["step"], content["progress"]["waited"]) == (3, 1)
    again = make_trainer(images, log, Tiny(), patience=100, **options)
    again.state.progress = Progress(**content["progress"])
    seen = scoring(again, [0.5] * 7)
    again.fit()
    assert (again.state.progress.iteration, again.state.progress.epoch) == (10, 2)
    assert (again.state.progress.waited, len(seen)) == (9, 7)


def refusals() -> list[tuple[list[str], str]]:
    return [
        (["--patience", "0"], "at least 1"),
        (["--patience", "2", "--eval", "val"], "patience has no effect without training"),
    ]


@pytest.mark.parametrize(("argv", "said"), refusals())
def test_what_patience_cannot_be(argv: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_settings(argv)
