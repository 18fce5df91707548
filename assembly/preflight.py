# SPDX-License-Identifier: Apache-2.0
"""What a training will need, said before its first step: memory, time, disk."""

from __future__ import annotations

import math
import shutil
from functools import partial
from pathlib import Path

import torch

from assembly.room import eval_workers
from assembly.run import Run
from assembly.tasks import Task, Validator
from assembly.trials import images_text, training_batch
from datasets.batch import Batch
from engine.compute import free_memory
from engine.loop import Trainer
from engine.rehearsal import STEP, Cost, DoesNotFit, rehearse
from runtime import checkpoint, distributed
from runtime.errors import UserError
from runtime.memory import free_text, local_ranks, size_text
from runtime.outcome import Interrupted
from runtime.progress import duration_text
from runtime.threads import usable_cpus


class Preflight:
    """A step and an evaluation of the largest images, and what follows from them.

    `peaks` says how much memory both took. DoesNotFit where it is too small, Interrupted after a
    signal.
    """

    def __init__(self, run: Run, task: Task, trainer: Trainer, validator: Validator) -> None:
        self.run, self.trainer = run, trainer
        self.titles: list[str] = []
        self.trial, self.free = validator.trial(), free_memory(run.world.device)
        misfit: DoesNotFit | None = None
        try:
            self.found = rehearse(trainer, partial(self._load, task), self.trial)
        except DoesNotFit as error:
            title = self.titles[0] if error.phase == STEP else self.trial.title
            run.log.msg(f"preflight: {error.phase} of {title}: {error.reason}")
            text = f"{title} needs more memory than there is ({free_text(self.free)})"
            misfit = DoesNotFit(error.phase, text)
        if distributed.any_rank(trainer.stop.is_set):
            raise Interrupted("stopped before the first step; start again as before")
        if misfit is not None:
            raise misfit
        step, evaluation = self.found.step, self.found.evaluation
        self.peaks = f"step {_peak(step)}, validation {_peak(evaluation)}"

    def report(self) -> list[str]:
        """Lines for the log; UserError, on every rank, where the disk is too small."""
        left = free_text(self.free)  # before
        return [
            f"preflight: step of {self.titles[0]}: {_cost(self.found.step)}, {left}",
            f"preflight: validation of {self.trial.title}: {_cost(self.found.evaluation)}",
            self._times(),
            self._disk(),
        ]

    def _load(self, task: Task) -> Batch:
        trainer = self.trainer
        batch = training_batch(
            trainer.loader, trainer.sampler, trainer.state.progress.epoch, task.larger
        )
        self.titles.append(images_text(len(batch.names), batch.sizes[0]))
        return batch

    def _times(self) -> str:
        """An epoch, a validation and the whole run; checkpoints are not counted."""
        trainer, settings, found = self.trainer, self.run.settings, self.found
        accumulated = trainer.settings.accum_steps
        read = found.step.load * trainer.state.turns.batches(accumulated)
        step = self._pace(found.step.seconds, read, settings.data.num_workers)
        each = self._pace(found.evaluation.seconds, found.evaluation.load, eval_workers(settings))
        validation = each * max(distributed.gather_objects(self.trial.times))
        steps = math.ceil(trainer.steps_per_epoch / accumulated)
        total = trainer.steps_left / accumulated * step + trainer.validations_left * validation
        slow = ""
        if step > 1.5 * found.step.seconds:
            slow = "; reading is the slower part, more --num_workers may help"
        return (
            f"preflight: an epoch takes {duration_text(steps * step)} ({steps} x {step:.2f} s), a "
            f"validation {duration_text(validation)}, the whole run about {duration_text(total)}"
            f"{slow}"
        )

    def _pace(self, seconds: float, load: float, workers: int) -> float:
        """Seconds between two of many steps, whose data come from so many processes."""
        if not workers:
            return seconds + load
        cores = max(usable_cpus() / local_ranks(), 1)
        pace = max(seconds, load / min(workers, cores))
        if self.run.world.device.type == "cuda":
            return pace
        busy = seconds * min(torch.get_num_threads(), cores) + load
        return max(pace, busy / cores)

    def _disk(self) -> str:
        """Checkpoints and previews; UserError, on every rank, if checkpoints find no room."""
        directory, previews = self.run.directory, 0
        if "tensorboard" in self.run.settings.run.tracker:
            previews = self.trial.written() * self.trainer.validations_left
        line, problem = "", ""
        if self.run.world.is_main:
            free, held = shutil.disk_usage(directory).free, checkpoint.bytes_held(directory)
            line, problem = disk_text(directory, self.found.checkpoint, previews, free, held)
        if problem := distributed.of_main(problem):
            raise UserError(problem)
        return line


def disk_text(directory: Path, size: int, previews: int, free: int, held: int) -> tuple[str, str]:
    """What a run writes to `directory`, and what is wrong with that; all numbers are bytes.

    size: of a checkpoint. held: of checkpoints that are there already.
    """
    most = checkpoint.MOST_AT_ONCE
    need = max(most * size - held, size)
    text = f"checkpoints of {size_text(size)}, up to {most} at a time"
    left = f"{size_text(free)} are free in {directory}"
    if need > free:
        return "", (
            f"--result_dir: {text}, take {size_text(need)} more, {left}; free some space, or name "
            "another folder"
        )
    line = f"preflight: disk: {text}, previews {size_text(previews)}; {left}"
    return line if need + previews <= free else f"{line}: warning: too little for the previews", ""


def _cost(cost: Cost) -> str:
    return f"{cost.seconds:.2f} s, reading {cost.load:.2f} s, {_peak(cost)}"


def _peak(cost: Cost) -> str:
    return "peak memory unknown" if cost.peak is None else f"peak memory {size_text(cost.peak)}"
