# SPDX-License-Identifier: Apache-2.0
"""Training: one step, one epoch, and `fit`, which validates, saves and can be killed any time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from datasets.batch import Batch
from datasets.loader import stop_workers
from engine.compute import Platform, peak_memory
from engine.feed import Feed, Group
from engine.loop_options import LoopOptions
from engine.meter import Meter
from engine.state import TrainState
from engine.update import Update
from loss.objective import LossTerms, Objective
from runtime import checkpoint, distributed, seeds
from runtime.outcome import Interrupted, StopFlag
from runtime.progress import PROGRESS_SECONDS
from runtime.runlog import RunLog


def _base_rate(iteration: int, epoch: int, base: float) -> float:
    """The schedule that changes nothing."""
    return base


class Trainer:
    """Runs `state` to the end of its schedule.

    `schedule(iteration, epoch, base)` gives the learning rate of a parameter group of base rate
    `base`, unless `schedules` has one under the name in its entry `schedule`. Both may depend on
    `steps_per_epoch` and are set before `fit`; without them rates stay what they are.
    `validate(epoch)` gives the scores of the evaluated network (`LoopOptions.best_by` decides which
    checkpoint is best).
    """

    def __init__(
        self,
        state: TrainState,
        objective: Objective,
        feed: Feed,
        platform: Platform,
        log: RunLog,
        settings: LoopOptions,
        validate: Callable[[int], dict[str, float]],
        stop: StopFlag,
    ) -> None:
        self.state, self.objective = state, objective
        self.schedule: Callable[[int, int, float], float] = _base_rate
        self.schedules: dict[str, Callable[[int, int, float], float]] = {}
        self.loader, self.sampler, self.prepare = feed.loader, feed.sampler, feed.prepare
        self.world, self.precision = platform.world, platform.precision
        self.log, self.settings = log, settings
        self.validate, self.stop = validate, stop
        if settings.compile:
            state.net.compile()
        if self.world.size > 1 and not state.holding.averages:
            distributed.keep_layouts(state.net)
        self.model: nn.Module = state.net
        self.update = Update(state, settings.clip_grad, log.msg)

    def joined(self) -> nn.Module:
        """The network with gradients that are means over all ranks; collective."""
        if self.world.size == 1 or self.state.holding.averages:
            return self.state.net
        devices = [self.world.local_rank] if self.world.device.type == "cuda" else None
        return DistributedDataParallel(
            self.state.net, device_ids=devices, gradient_as_bucket_view=True
        )

    @property
    def steps_per_epoch(self) -> int:
        """Loader batches of each rank in one epoch."""
        limit, steps = self.settings.max_steps, self.sampler.steps
        return steps if limit is None else min(limit, steps)

    def _finished(self) -> bool:
        limit, progress = self.settings.max_iter, self.state.progress
        done = limit is not None and progress.iteration >= limit
        return done or progress.epoch >= self.settings.max_epoch or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        """Whether `patience` validations in a row had no better score."""
        patience = self.settings.patience
        return patience is not None and self.state.progress.waited >= patience

    def fit(self) -> None:
        """Train until the schedule ends; raises Interrupted after saving on SIGTERM/SIGINT.

        After an epoch, or with `val_iters` after that many steps, a checkpoint is written and then,
        when it is due, the network is validated: whatever ends a validation, no training is lost.
        """
        progress = self.state.progress
        self.model = self.joined()
        self._settle()
        while not self._finished():
            self._epoch(progress.epoch)
            if self.stopped_early:  # inside the epoch, where the state is saved
                break
            progress.epoch, progress.step = progress.epoch + 1, 0
            if self.settings.val_iters is None or self._finished():
                self._save(self._epoch_number())
                if self._validation_due():
                    self._validate(self._epoch_number())
        stop_workers(self.loader)

    def _settle(self) -> None:
        """Before the first step: metrics.csv and the best checkpoint agree with the state.

        A killed run may have left rows of validations that come after its checkpoint: they are
        dropped, because they will be written again. A validation it did not finish is run now; if
        its row exists, only the best checkpoint can be missing.
        """
        progress, epoch = self.state.progress, self._epoch_number()
        number = epoch if self.settings.val_iters is None else progress.iteration
        inside = self.settings.val_iters is None and progress.step and not self._finished()
        row = self.log.keep_val_rows(number - 1 if inside else number)
        row = distributed.of_main(row)
        if not self._validation_due():
            return
        if self.settings.best_by in row:
            self._take(row[self.settings.best_by], epoch)
        else:
            self._validate(epoch)

    def _epoch_number(self) -> int:
        """The epoch of the last step, which names a checkpoint made now."""
        progress = self.state.progress
        return progress.epoch if progress.step else progress.epoch - 1

    def _validation_due(self) -> bool:
        """Whether the state is to be validated and has not been yet."""
        progress, settings = self.state.progress, self.settings
        if not progress.iteration or progress.validated == progress.iteration:
            return False
        if self._finished():
            return True
        if settings.val_iters is not None:
            return progress.iteration % settings.val_iters == 0
        return not progress.step and progress.epoch % settings.val_freq == 0

    def _checkpoint_if_due(self, epoch: int) -> bool:
        """Save and validate after every `val_iters` steps; returns whether it was time."""
        if self.settings.val_iters is None or not self._validation_due():
            return False
        self._save(epoch)
        self._validate(epoch)
        self.model.train()
        return True

    def _validate(self, epoch: int) -> None:
        """Score the evaluated network. The random states are restored: training continues the same
        whether a validation came between two steps or was already done by a killed run.
        """
        distributed.broadcast_buffers(self.state.net)
        if self.state.ema is not None:  # its statistics differ between ranks, too
            distributed.broadcast_buffers(self.state.ema.module)
        random_state = seeds.random_state()
        with self.state.holding.gathered(self.state.evaluated):
            score = self.validate(epoch)[self.settings.best_by]
        seeds.set_random_state(random_state)
        self._take(score, epoch)

    def _take(self, score: float, epoch: int) -> None:
        """Note that the state is validated; with the best score so far, write the best checkpoint.

        A score that is not finite does not count: NaN compares with nothing, and the classes of a
        network that outputs NaN can look better than those of an early epoch.
        """
        progress, name = self.state.progress, self.settings.best_by
        progress.validated = progress.iteration
        if not math.isfinite(score):
            self.log.msg(f"warning: {name} is not a number: the best checkpoint stays as it is")
        if not progress.improves(score):
            progress.waited += 1
            return
        progress.waited = 0
        progress.best, progress.best_epoch = score, epoch
        progress.best_iteration = progress.iteration
        content = self.state.pack()
        if self.world.is_main:
            checkpoint.save_best(self.log.directory, content, epoch)
        distributed.barrier()

    def _save(self, epoch: int) -> None:
        self.update.report()
        self.update.end_if_diverged()
        content = self.state.pack()
        if self.world.is_main:
            checkpoint.save_last(self.log.directory, content, epoch)
        distributed.barrier()

    def _groups(self, batches: Iterator[Batch], count: int) -> Iterator[Group]:
        """Groups of batches, until each rank would have seen `count`."""
        while count > 0:
            steps = min(self.settings.accum_steps, count)
            group = list(islice(batches, self.state.turns.batches(steps)))
            if not group:
                return
            count -= steps
            yield Group(group, steps)

    def _epoch(self, epoch: int) -> None:
        progress = self.state.progress
        self.sampler.set_epoch(epoch, progress.step)
        self.objective.set_epoch(epoch)
        self.model.train()
        meter, started, last_line = Meter(), time.monotonic(), time.monotonic()
        first_step, images = progress.step, 0
        batches = iter(self.loader)
        for group in self._groups(batches, self.steps_per_epoch - progress.step):
            self._set_rates(epoch)
            self.objective.set_iteration(progress.iteration)
            self._step(group, meter)
            progress.step += group.steps
            progress.iteration += 1
            images += sum(len(batch.names) for batch in group.batches) * self.world.size
            now = time.monotonic()
            if now - last_line >= PROGRESS_SECONDS or progress.step == self.steps_per_epoch:
                last_line = now
                done = progress.step - first_step
                left = (now - started) / done * self.steps_left
                speed = images / (now - started)
                self._report(epoch, meter, speed, left)
                meter = Meter()
            if self._finished():
                break
            self._stop_if_asked(epoch)
            if not self._checkpoint_if_due(epoch):
                self._save_if_due(epoch)
            elif self.stopped_early:
                break

    @property
    def steps_left(self) -> int:
        """Loader batches of this rank up to the end of the schedule."""
        progress, settings = self.state.progress, self.settings
        by_epoch = (settings.max_epoch - progress.epoch) * self.steps_per_epoch - progress.step
        if settings.max_iter is None:
            return by_epoch
        return min(by_epoch, (settings.max_iter - progress.iteration) * settings.accum_steps)

    @property
    def validations_left(self) -> int:
        """How often the network will be validated, if nothing ends the training early."""
        left, settings = self.steps_left, self.settings
        if settings.val_iters is not None:
            return math.ceil(left / settings.accum_steps / settings.val_iters)
        return math.ceil(left / self.steps_per_epoch / settings.val_freq)

    def _stop_if_asked(self, epoch: int) -> None:
        """Between two steps: end what diverged, or save and raise Interrupted for SIGTERM/SIGINT;
        all ranks do if one has to.
        """
        progress = self.state.progress
        # The hosts of all ranks wait for one another here: rarely on CUDA, where steps are short.
        interval = 10 if self.world.device.type == "cuda" else 1
        if progress.iteration % interval:
            return
        self.update.end_if_diverged()
        if distributed.any_rank(self.stop.is_set):
            stop_workers(self.loader)  # workers get the signal too and soon end, which must not
            self._save(epoch)  # disturb the saving
            raise Interrupted(f"saved: epoch {epoch} step {progress.step}; --resume auto goes on")

    def _save_if_due(self, epoch: int) -> None:
        every = self.settings.save_iters
        if every and self.state.progress.iteration % every == 0:
            self._save(epoch)

    def _set_rates(self, epoch: int) -> None:
        iteration = self.state.progress.iteration
        for group in self.state.optimizer.param_groups:
            schedule = self.schedules.get(group.get("schedule", ""), self.schedule)
            group["lr"] = schedule(iteration, epoch, group["initial_lr"])

    def try_step(self, batches: list[Batch]) -> None:
        """The next step of the training, over `batches`; the network is in training mode."""
        epoch, iteration = self.state.progress.epoch, self.state.progress.iteration
        self.objective.set_epoch(epoch)
        self.objective.set_iteration(iteration)
        self._set_rates(epoch)
        self._step(Group(batches, self.settings.accum_steps), Meter())

    def _step(self, group: Group, meter: Meter) -> None:
        """Forward and backward over `group`, then one update.

        `meter` receives the loss of every batch of the group.
        """
        self.update.begin()
        turns, iteration = self.state.turns, self.state.progress.iteration
        for index, batch in enumerate(group.batches):
            number = self.world.rank + index * self.world.size
            is_last = index == len(group.batches) - 1
            wait = isinstance(self.model, DistributedDataParallel) and not is_last
            with (
                self.model.no_sync() if wait else nullcontext(),  # type: ignore[operator]
                turns.turn(number, iteration, self.state.net.buffers()),
            ):
                loss = self._forward(batch)
                total = turns.part(loss.total, number, group.steps)
                self.state.scaler.scale(total).backward()
            meter.add(loss)
        self.update.finish()

    def _forward(self, batch: Batch) -> LossTerms:
        batch = self.prepare(batch.to(self.world.device), self.state.progress.epoch)
        images = batch.images
        if self.settings.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with self.precision.autocast():
            outputs = self._outputs(images, batch.rows if self.settings.positions else None)
        assert batch.labels is not None, "training without labels"
        outputs = {key: value.float() for key, value in outputs.items()}
        return self.objective(outputs, batch.labels, batch.extras)

    def _outputs(self, images: Tensor, rows: Tensor | None) -> dict[str, Tensor]:
        try:
            outputs: dict[str, Tensor] = self.model(images, rows)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                "batch norm sees a single value per channel: raise --bs_trn above "
                f"{len(images)}, or --crop_size (for a classifier --img_size) above "
                f"{images.shape[2]},{images.shape[3]}"
            ) from error
        return outputs

    def _report(self, epoch: int, meter: Meter, speed: float, left: float) -> None:
        self.update.report()
        means, progress, rates = meter.means(), self.state.progress, self.state.rates
        shown = ", ".join(f"{name.replace('_', ' ')} {rate:.6g}" for name, rate in rates.items())
        terms = " ".join(f"{name} {value:.6f}" for name, value in means.items())
        terms += "".join(f" {name} {value}" for name, value in self.objective.counters().items())
        memory = ""
        if self.world.device.type == "cuda":
            memory = f" mem {peak_memory(self.world.device):.1f} GiB"
        self.log.msg(
            f"[epoch {epoch}], [iter {progress.step} / {self.steps_per_epoch}]"
            f"{self._total()}, {terms} "
            f"[{shown}] {speed:.2f} images/s, {left / 60:.1f} min left{memory}"
        )
        self.log.metric("train", {**means, **rates}, progress.iteration)
        memory_gib, done = peak_memory(self.world.device), progress.iteration
        run = {"images_per_s": speed, "memory_gib": memory_gib, "skipped": progress.skipped}
        self.log.scalars({f"train/{name}": value for name, value in run.items()}, done)
        self.log.status(
            "running",
            epoch=epoch,
            step=progress.step,
            iteration=progress.iteration,
            best=progress.best if progress.has_best else None,
        )

    def _total(self) -> str:
        """The number of optimiser steps done, if the length of the run is given in steps."""
        limit = self.settings.max_iter
        return "" if limit is None else f", [step {self.state.progress.iteration} / {limit}]"
