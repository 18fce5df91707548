# SPDX-License-Identifier: Apache-2.0
"""What a training costs, found before its first step: by one step and one evaluation of its own.

    found = rehearse(trainer, load, trial)
    found.step.seconds, found.step.peak, found.checkpoint

Both are run by the code that will run them, on real images, and leave everything as it was.
"""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from datasets.batch import Batch
from engine.compute import free_memory
from engine.guard import Guard, bounded
from engine.loop import Trainer
from engine.untouched import untouched
from engine.update import Update
from runtime import distributed
from runtime.limits import one_line
from runtime.memory import high_water, is_out_of_memory
from runtime.runlog import RunLog

Read = TypeVar("Read")
Guarded = AbstractContextManager[object]

STEP, EVALUATION = "training step", "validation"
SCALED_STEPS = 8  # in which fp16 finds a scale of the loss with which the optimiser steps
MOST_BATCHES = 2  # of an accumulated step; further ones need no more memory, and as much time each
QUICK = 1.0  # seconds: what takes less is done twice, because the first time sets up what stays


class DoesNotFit(Exception):
    """The memory is too small for `phase`, STEP or EVALUATION, on one rank at least."""

    def __init__(self, phase: str, reason: str) -> None:
        super().__init__(f"{phase} of {reason}")
        self.phase, self.reason = phase, reason


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one piece of work takes, of the rank that takes most.

    seconds: to compute; load: to read what is computed on, in one process. peak: bytes of memory
    at the highest, of the GPU or of the process; None where the system does not tell.
    """

    seconds: float
    load: float
    peak: int | None


NOTHING = Cost(seconds=0.0, load=0.0, peak=None)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The evaluation of one batch, of which a whole one is known.

    load: reads the batch; None: this rank has none. run: evaluates it. title: of the batch. times:
    how often this rank would evaluate as much for a whole evaluation. written: bytes that one adds
    to the files of trackers, known once `run` was called.
    """

    load: Callable[[], Batch | None]
    run: Callable[[Batch], object]
    title: str
    times: float
    written: Callable[[], int] = int


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """The costs of an optimiser step and of an evaluated batch, and the bytes of a checkpoint."""

    step: Cost
    evaluation: Cost
    checkpoint: int


def rehearse(trainer: Trainer, load: Callable[[], Batch], trial: Trial) -> Rehearsal:
    """Make steps on the batch that `load` reads, then evaluate that of `trial`; collective.

    Both find what they will find in the training: moments of the optimiser, buckets of gradients.
    DoesNotFit, on every rank, where the memory of one of them is too small.
    """
    try:
        return _rehearse(trainer, load, trial)
    finally:
        if trainer.world.size > 1:
            gc.collect()  # the buckets of gradients, which are held in circles
        if trainer.world.device.type == "cuda":
            torch.cuda.empty_cache()


def _rehearse(trainer: Trainer, load: Callable[[], Batch], trial: Trial) -> Rehearsal:
    state, device = trainer.state, trainer.world.device
    guarded = nullcontext if device.type == "cuda" or trainer.settings.compile else Guard
    with untouched(state) as copied, bounded(_room(device)):
        batch, seconds = _timed(load)
        scratch, joined = _rehearsing(trainer), trainer.joined()
        cost = partial(_cost, load=seconds, device=device, copied=copied)
        # Without the other ranks at first: they would wait for one whose memory is too small.
        step = _agreed(STEP, partial(cost, partial(_first_steps, scratch, batch, guarded(copied))))
        if joined is not state.net:
            scratch.model = joined
            step = _largest(cost(partial(_full_step, scratch, batch)))
        del batch
        pictures, seconds = _timed(trial.load)
        cost = partial(_cost, load=seconds, device=device, copied=copied)
        evaluate = partial(_evaluate, trial, pictures, device, guarded())
        evaluation = _agreed(EVALUATION, partial(cost, evaluate))
        size = sum(_sizes(state.pack()))
    return Rehearsal(step=step, evaluation=evaluation, checkpoint=size)


def _room(device: torch.device) -> int | None:
    """Bytes beyond which the system would end the process; a GPU refuses them by itself."""
    return None if device.type == "cuda" else free_memory(device)


def _rehearsing(trainer: Trainer) -> Trainer:
    """`trainer` for steps on this rank alone, which leave nothing in its log and its loss."""
    scratch = copy.copy(trainer)
    scratch.objective = copy.deepcopy(trainer.objective)
    scratch.log = RunLog(trainer.log.directory, is_main=False)
    scratch.model = trainer.state.net.train()
    scratch.update = Update(trainer.state, trainer.settings.clip_grad, scratch.log.msg)
    return scratch


def _first_steps(trainer: Trainer, batch: Batch, guard: Guarded) -> float:
    """A step that sets up what stays, such as moments; seconds of the next one."""
    state = trainer.state
    with guard:
        for _ in range(SCALED_STEPS if state.scaler.is_enabled() else 1):
            trainer.try_step([batch])
            if state.optimizer.state:
                break
    return _full_step(trainer, batch)


def _full_step(trainer: Trainer, batch: Batch) -> float:
    """Seconds of an optimiser step."""
    accumulated = trainer.state.turns.batches(trainer.settings.accum_steps)
    group = [batch] * min(accumulated, MOST_BATCHES)
    device = trainer.world.device
    return _seconds(partial(trainer.try_step, group), device) * accumulated / len(group)


def _evaluate(trial: Trial, batch: Batch | None, device: torch.device, guard: Guarded) -> float:
    """Seconds of an evaluation of `batch`."""
    if batch is None:
        return 0.0
    run = partial(trial.run, batch)
    with guard:
        first = _seconds(run, device)
    return first if first > QUICK else _seconds(run, device)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """How long `call()` takes, with all that it starts on the device."""
    _wait(device)
    start = time.monotonic()
    call()
    _wait(device)
    return time.monotonic() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _timed(load: Callable[[], Read]) -> tuple[Read, float]:
    """What `load()` gives, and its seconds."""
    start = time.monotonic()
    return load(), time.monotonic() - start


def _cost(work: Callable[[], float], *, load: float, device: torch.device, copied: int) -> Cost:
    """The cost of `work()`, which returns its seconds; `copied` bytes are not counted."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return Cost(seconds=work(), load=load, peak=torch.cuda.max_memory_allocated(device))
    with high_water() as held:
        seconds = work()
    return Cost(seconds=seconds, load=load, peak=None if held.peak is None else held.peak - copied)


def _agreed(phase: str, work: Callable[[], Cost]) -> Cost:
    """The largest cost over the ranks; DoesNotFit on all of them if there is one that cannot."""
    cost, reason = NOTHING, ""
    try:
        cost = work()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = one_line(str(error))
    for said in distributed.gather_objects(reason):
        if said:
            raise DoesNotFit(phase, said)
    return _largest(cost)


def _largest(cost: Cost) -> Cost:
    """The largest figures of all ranks."""
    costs: list[Cost] = distributed.gather_objects(cost)
    return Cost(
        seconds=max(each.seconds for each in costs),
        load=max(each.load for each in costs),
        peak=max((each.peak for each in costs if each.peak is not None), default=None),
    )


def _sizes(content: object) -> Iterator[int]:
    """Bytes of every tensor in a checkpoint."""
    if isinstance(content, Tensor):
        yield content.nbytes
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _sizes(value)
    elif isinstance(content, list):
        for value in content:
            yield from _sizes(value)
