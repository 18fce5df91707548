# SPDX-License-Identifier: Apache-2.0
"""What a training costs is found by steps of its own, which nothing else notices."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from datasets.batch import Batch
from engine.rehearsal import EVALUATION, STEP, DoesNotFit, Trial, rehearse
from engine.state import Progress
from runtime.memory import peak_above
from runtime.runlog import RunLog
from tests.engine.test_loop import Batches, Tiny, make_trainer, pictures
from tests.engine.test_untouched import assert_same, state_of


class Hungry(Tiny):
    """Takes `train` bytes in a training pass, `evaluate` in an evaluation."""

    def __init__(self, train: int, evaluate: int) -> None:
        super().__init__()
        self.train_bytes, self.eval_bytes = train, evaluate

    def forward(self, images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        taken = torch.ones((self.train_bytes if self.training else self.eval_bytes) // 4)
        return {"pred": super().forward(images)["pred"] + taken[0] * 0}


def a_batch() -> Batch:
    return next(iter(Batches(pictures(1))))


def trial_of(net: nn.Module) -> Trial:
    """One image through `net`."""

    def run(batch: Batch) -> None:
        with torch.inference_mode():
            net.eval()(batch.images)

    return Trial(load=a_batch, run=run, title="1 image of 8x8", times=3.0)


@pytest.mark.slow
def test_peaks_are_those_of_the_step_and_of_the_evaluation(log: RunLog) -> None:
    if peak_above(lambda: None) is None:
        pytest.skip("this system does not tell how much memory a process takes")
    small, large = 8 << 20, 96 << 20
    step_first = Hungry(large, small)
    trainer = make_trainer(pictures(2), log, step_first)
    found = rehearse(trainer, a_batch, trial_of(step_first))
    assert found.step.peak is not None and found.evaluation.peak is not None
    assert 0.7 < (found.step.peak - found.evaluation.peak) / (large - small) < 1.3
    evaluation_first = Hungry(small, large)
    trainer = make_trainer(pictures(2), log, evaluation_first)
    found = rehearse(trainer, a_batch, trial_of(evaluation_first))
    assert found.step.peak is not None and found.evaluation.peak is not None
    assert 0.7 < (found.evaluation.peak - found.step.peak) / (large - small) < 1.3
    assert found.step.seconds > 0 and found.evaluation.seconds > 0


@pytest.mark.parametrize("phase", [STEP, EVALUATION])
def test_too_little_memory_says_for_what_and_leaves_no_trace(log: RunLog, phase: str) -> None:
    little, much = 1 << 20, 1 << 50
    net = Hungry(much, little) if phase == STEP else Hungry(little, much)
    trainer = make_trainer(pictures(2), log, net, ema=0.5)
    before = state_of(trainer)
    with pytest.raises(DoesNotFit) as error:
        rehearse(trainer, a_batch, trial_of(net))
    assert error.value.phase == phase
    assert_same(state_of(trainer), before)


def test_other_errors_pass_through_and_leave_no_trace(log: RunLog) -> None:
    net = Tiny()
    trainer = make_trainer(pictures(2), log, net)
    before = state_of(trainer)

    def broken() -> Batch:
        raise ValueError("a file that cannot be read")

    with pytest.raises(ValueError, match="a file"):
        rehearse(trainer, broken, trial_of(net))
    assert_same(state_of(trainer), before)


def test_a_training_is_the_same_with_and_without_it(log: RunLog) -> None:
    """Also where steps are skipped, of which neither the log nor the counters keep anything."""
    states = []
    broken = next(iter(Batches([torch.full((1, 3, 8, 8), float("nan"))])))
    batches = (a_batch(), broken)
    for rehearsed in (True, False):
        images = pictures(4)  # which seeds
        net = Tiny()
        trainer = make_trainer(images, log, net, ema=0.5, accum_steps=2, max_epoch=2)
        if rehearsed:
            before = (log.directory / "logging.log").read_text()
            for batch in batches:
                rehearse(trainer, partial(lambda given: given, batch), trial_of(net))
            assert (log.directory / "logging.log").read_text() == before
            assert trainer.update.skipped_in_a_row == 0
        trainer.fit()
        states.append(state_of(trainer))
    assert_same(*states)


def test_a_checkpoint_is_as_large_as_said(log: RunLog) -> None:
    net = Tiny()
    net.extra = nn.Parameter(torch.zeros(100_000))
    trainer = make_trainer(pictures(2), log, net)
    trainer.state.optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    trainer.state.optimizer.param_groups[0]["initial_lr"] = 0.1
    found = rehearse(trainer, a_batch, trial_of(net))
    trainer.fit()
    written = (log.directory / "last_checkpoint_ep0.pth").stat().st_size
    assert found.checkpoint <= written < found.checkpoint + 200_000


def test_a_rank_without_images_evaluates_nothing(log: RunLog) -> None:
    trial = Trial(load=lambda: None, run=lambda batch: 1 / 0, title="no image", times=0.0)
    found = rehearse(make_trainer(pictures(2), log, Tiny()), a_batch, trial)
    assert found.evaluation.seconds == 0


@pytest.mark.parametrize(
    ("options", "progress", "count"),
    [
        ({"max_epoch": 4}, {}, 4),
        ({"max_epoch": 5, "val_freq": 2}, {}, 3),
        ({"max_epoch": 4}, {"epoch": 3, "step": 2, "iteration": 14}, 1),
        ({"max_epoch": 100, "max_iter": 10, "val_iters": 4}, {}, 3),
        ({"max_epoch": 100, "max_iter": 10, "val_iters": 4, "accum_steps": 2}, {}, 3),
    ],
)
def test_validations_are_counted_to_the_end_of_the_run(
    log: RunLog, options: dict[str, int], progress: dict[str, int], count: int
) -> None:
    trainer = make_trainer(pictures(4), log, Tiny(), **options)
    trainer.state.progress = Progress(**progress)
    assert trainer.validations_left == count
