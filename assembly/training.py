# SPDX-License-Identifier: Apache-2.0
"""One training: every part that the settings describe, and the schedule to its end."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from assembly.auto_fit import KEPT, Changes, Search, earlier_choices, words
from assembly.network import build_network, check_arch, place
from assembly.optimiser import build_state
from assembly.preflight import Preflight
from assembly.rates import build_schedule, cooldown_epochs, group_schedules
from assembly.resume import kept_settings, sharing_line, take_turns
from assembly.run import Run, open_run, read_resumed, resume, write_run_facts
from assembly.snapshot import Snapshot, read_snapshot
from assembly.tasks import Task, Validator, open_task
from engine.class_tables import note_classes
from engine.compute import Platform
from engine.feed import Feed
from engine.loop import Trainer
from engine.loop_options import LoopOptions
from engine.rehearsal import DoesNotFit
from engine.state import Progress
from runtime import seeds
from runtime.heap import give_freed_memory_back
from runtime.limits import counted
from runtime.memory import own_limit
from runtime.outcome import DONE, Outcome, StopFlag
from runtime.runlog import RunLog
from settings import Settings

TEST_MODE_STEPS = 11


@dataclass(frozen=True, kw_only=True)
class Training:
    """The parts of a training, ready for its first step."""

    run: Run
    task: Task
    trainer: Trainer
    validator: Validator


def train(settings: Settings, outcome: Outcome) -> int:
    """Build everything the settings describe and run the schedule to its end; the exit code."""
    check_arch(settings)
    run = open_run(settings, outcome)
    if settings.augmentation.dump_augmentation_images:
        return _dump_augmentations(open_task(run), run.directory / "augmented", run.log)
    resumed = read_resumed(run)
    if settings.run.summary:
        return _summarise(run, resumed)
    training = fitted(run, resumed)
    del resumed
    run, task, trainer = training.run, training.task, training.trainer
    write_run_facts(run, task.fingerprint)
    trainer.fit()
    progress, early = trainer.state.progress, ""
    if trainer.stopped_early:
        early = f"--patience {settings.run.patience}: {counted(progress.waited, 'validation')} "
        early += f"in a row without a better {task.best_name}"
    _report(progress, task.best_name, early, run.log)
    return DONE


def fitted(run: Run, resumed: Snapshot | None) -> Training:
    """The parts of a training that memory and disk are large enough for; collective.

    With `--auto_fit` perhaps of other settings, as if these had been typed. UserError for what does
    not fit, with what would.
    """
    earlier: Changes = {}
    if resumed is not None:
        earlier = earlier_choices(run.settings, resumed.content, resumed.path)
    if earlier:
        run.log.msg(f"--auto_fit: as before in this run: {words(earlier)}")
    if own_limit() is not None:
        give_freed_memory_back()
    search, start = Search(run.settings, earlier), seeds.random_state()
    while True:
        seeds.set_random_state(start)
        training = _attempt(run, resumed, search)
        if training is not None:
            return training
        run.log.msg(f"preflight: {search.misfit}; trying {words(search.chosen)}")
        gc.collect()
        if run.world.device.type == "cuda":
            torch.cuda.empty_cache()


def _attempt(run: Run, resumed: Snapshot | None, search: Search) -> Training | None:
    """The training as `search` wants it now; None after telling it that this does not fit."""
    preflight = None
    try:
        training = build(run.with_settings(search.settings), resumed)
        trainer = training.trainer
        if _is_rehearsed(run, trainer):
            preflight = Preflight(training.run, training.task, trainer, training.validator)
    except DoesNotFit as misfit:
        search.go_on(misfit)
        return None
    except ValueError:
        if not search.give_up():
            raise
        return None
    if preflight is not None:
        for line in [*search.result(preflight.peaks), *preflight.report()]:
            run.log.msg(line)
    if search.chosen:
        trainer.state.facts[KEPT] = search.kept()
    return training


def _is_rehearsed(run: Run, trainer: Trainer) -> bool:
    """Whether there is a step to come that this process can try; logs a reason that is not asked.

    Processes that share the weights cannot try a step each on its own.
    """
    if run.settings.run.no_preflight or trainer.stopped_early or trainer.steps_left <= 0:
        return False
    if trainer.state.holding.averages:
        run.log.msg("preflight: none, --shard does not allow one")
        return False
    return True


def build(run: Run, resumed: Snapshot | None) -> Training:
    """Every part that the settings of `run` describe, in the state of `resumed`."""
    task, turns = open_task(run), take_turns(resumed, run)
    loader, sampler = task.train_loader(turns.ranks)
    run, net, snapshot = _network(run, task, resumed)
    net = place(run.settings, net, run.world, run.log)
    state = build_state(run, net, {**task.header(), **run.weights.facts}, snapshot, turns)
    del snapshot
    validator = task.validation(state)
    trainer = Trainer(
        state=state,
        objective=task.objective(),
        feed=Feed(loader=loader, sampler=sampler, prepare=task.prepare),
        platform=Platform(world=run.world, precision=run.precision),
        log=run.log,
        settings=loop_options(run.settings, task.best_by),
        validate=validator,
        stop=StopFlag(),
    )
    trainer.schedule = build_schedule(run.settings, trainer.steps_per_epoch)
    trainer.schedules = group_schedules(run.settings, trainer.steps_per_epoch)
    resume(resumed, state, kept_settings(run.settings, trainer.steps_per_epoch), run)
    if line := sharing_line(turns, run):
        run.log.msg(line)
    return Training(run=run, task=task, trainer=trainer, validator=validator)


def _network(
    run: Run, task: Task, resumed: Snapshot | None
) -> tuple[Run, nn.Module, Snapshot | None]:
    """The network with its weights, and the file of these, by a run that knows their origin."""
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
    return run, net, snapshot


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


def _summarise(run: Run, resumed: Snapshot | None) -> int:
    """Write the number of parameters of each part instead of training; the exit code, 0."""
    task, log = open_task(run), run.log
    task.train_loader(run.world.size)  # which checks the data
    _, net, _ = _network(run, task, resumed)
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
