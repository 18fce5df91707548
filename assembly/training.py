# SPDX-License-Identifier: Apache-2.0
"""One training: every part that the settings describe, and the schedule to its end."""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn

from assembly.network import build_network, check_arch, place
from assembly.optimiser import build_state
from assembly.rates import build_schedule, cooldown_epochs, group_schedules
from assembly.resume import kept_settings, sharing_line, take_turns
from assembly.run import open_run, read_resumed, resume, write_run_facts
from assembly.snapshot import read_snapshot
from assembly.tasks import Task, open_task
from engine.class_tables import note_classes
from engine.compute import Platform
from engine.feed import Feed
from engine.loop import Trainer
from engine.loop_options import LoopOptions
from engine.state import Progress
from runtime.outcome import DONE, Outcome, StopFlag
from runtime.runlog import RunLog
from settings import Settings

TEST_MODE_STEPS = 11


def train(settings: Settings, outcome: Outcome) -> int:
    """Build everything the settings describe and run the schedule to its end; the exit code."""
    check_arch(settings)
    run = open_run(settings, outcome)
    task = open_task(run)
    if settings.augmentation.dump_augmentation_images:
        return _dump_augmentations(task, run.directory / "augmented", run.log)
    resumed = read_resumed(run)
    turns = take_turns(resumed, run)
    loader, sampler = task.train_loader(turns.ranks)
    run = run.fetched(resumed)
    snapshot = read_snapshot(run.local_settings.network.snapshot)
    note_classes(snapshot, task.spec.class_names, run.log.msg)
    net = build_network(
        run.local_settings,
        task.spec.num_classes,
        run.log,
        snapshot,
        resumed,
        class_names=task.spec.class_names,
    )
    if settings.run.summary:
        return _summarise(net, run.log)
    net = place(run.settings, net, run.world, run.log)
    state = build_state(run, net, {**task.header(), **run.weights.facts}, snapshot, turns)
    del snapshot
    trainer = Trainer(
        state=state,
        objective=task.objective(),
        feed=Feed(loader=loader, sampler=sampler, prepare=task.prepare),
        platform=Platform(world=run.world, precision=run.precision),
        log=run.log,
        settings=loop_options(run.settings, task.best_by),
        validate=task.validation(state),
        stop=StopFlag(),
    )
    trainer.schedule = build_schedule(run.settings, trainer.steps_per_epoch)
    trainer.schedules = group_schedules(run.settings, trainer.steps_per_epoch)
    resume(resumed, state, kept_settings(run.settings, trainer.steps_per_epoch), run)
    del resumed
    if line := sharing_line(turns, run):
        run.log.msg(line)
    write_run_facts(run, task.fingerprint)
    trainer.fit()
    early = ""
    if trainer.stopped_early:
        early = f"--patience {settings.run.patience}: {state.progress.waited} validations in a row "
        early += f"without a better {task.best_name}"
    _report(state.progress, task.best_name, early, run.log)
    return DONE


def loop_options(settings: Settings, best_by: str = "mean_iu") -> LoopOptions:
    """The lengths and switches of the loop; `best_by`: the score of the best checkpoint."""
    schedule, run = settings.schedule, settings.run
    epochs = schedule.max_epoch + cooldown_epochs(schedule)
    return LoopOptions(
        max_epoch=sys.maxsize if schedule.max_iter is not None else epochs,
        max_steps=TEST_MODE_STEPS if run.test_mode else None,
        max_iter=schedule.max_iter,
        val_freq=run.val_freq,
        val_iters=run.val_iters,
        save_iters=run.save_iters,
        accum_steps=settings.optimiser.accum_steps,
        clip_grad=settings.optimiser.clip_grad,
        channels_last=run.channels_last,
        compile=run.compile,
        best_by=best_by,
        patience=run.patience,
        positions=not settings.data.no_pos_dataset,
    )


def _summarise(net: nn.Module, log: RunLog) -> int:
    """Write the number of parameters of each part instead of training; the exit code, 0."""
    for name, part in net.named_children():
        log.msg(f"{name:<24}{sum(item.numel() for item in part.parameters()):>14,}")
    log.status("done")
    return DONE


def _dump_augmentations(task: Task, folder: Path, log: RunLog) -> int:
    """Write augmented training images instead of training; the exit code, 0."""
    log.msg(f"{task.dump_augmentations(folder)} augmented images in {folder}")
    log.status("done")
    return DONE


def _report(progress: Progress, score: str, early: str, log: RunLog) -> None:
    """The best score, and why training ended `early`, to the log and status.json."""
    if early:
        log.msg(early)
    if progress.has_best:
        log.msg(
            f"done: best {score} {100 * progress.best:.2f} in epoch {progress.best_epoch}, "
            f"step {progress.best_iteration}"
        )
    else:
        log.msg(f"done: no validation gave a {score}, there is no best checkpoint")
    best = progress.best if progress.has_best else None
    log.status("done", early, best=best, epoch=progress.epoch, iteration=progress.iteration)
