# SPDX-License-Identifier: Apache-2.0
"""From settings to learning rates: the schedule of a run as a function of its position."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

from assembly.maker import maker
from engine.hanet_groups import SCHEDULE as HANET_SCHEDULE
from engine.schedule import Schedule
from runtime.errors import UserError
from settings import Settings, catalogue
from settings.kinds import BASE_RATE, LENGTH, Curve, schedule_of, schedule_reads
from settings.schedule import ScheduleSettings

Rate = Callable[[int, int, float], float]  # (optimiser step, epoch, base rate of a group)


def learning_rate(settings: Settings, ranks: int) -> float:
    """The base rate of this run: `--lr`, scaled to its images per step with --lr_batch."""
    optimiser, schedule = settings.optimiser, settings.schedule
    if optimiser.lr_batch is None:
        return optimiser.lr
    step = settings.data.bs_trn * ranks * optimiser.accum_steps
    rate = optimiser.lr * step / optimiser.lr_batch
    if schedule_reads(schedule, "min_lr") and schedule.min_lr > rate:
        raise UserError(
            f"--min_lr {schedule.min_lr:g} is above the rate of this run, --lr {optimiser.lr:g} x "
            f"{step}/{optimiser.lr_batch} = {rate:.2g} (--lr_batch); give a smaller --min_lr"
        )
    return rate


def build_schedule(settings: Settings, steps_per_epoch: int) -> Rate:
    """Learning rate from (optimiser step, epoch, base rate of a parameter group)."""
    schedule = settings.schedule
    kind, updates = schedule_of(schedule), -(-steps_per_epoch // settings.optimiser.accum_steps)
    if schedule.lr_by == "iter":
        total = schedule.max_iter or schedule.max_epoch * updates
        by_iteration = _curve(settings, kind.curve("iter"), total)
        return lambda iteration, epoch, base: base * by_iteration(base)(iteration)
    length = schedule.max_epoch if schedule.max_iter is None else schedule.max_iter / updates
    by_epoch = _curve(settings, kind.by_epoch, length)
    return lambda iteration, epoch, base: base * by_epoch(base)(epoch)


def _curve(settings: Settings, curve: Curve, length: float) -> Callable[[float], Schedule]:
    """From a base rate to the factor of `curve`, which few curves need it for."""
    if settings.run.test_mode:  # a warm-up is longer than those few steps
        settings = replace(settings, schedule=replace(settings.schedule, warmup_iters=0))
    make, takes = maker(curve.made_by), curve.takes
    rates = [name for name, what in takes.items() if what == BASE_RATE]
    values = {
        name: length if what == LENGTH else catalogue()[what].of(settings)
        for name, what in takes.items()
        if name not in rates
    }

    @functools.cache  # asked at every step, for the few base rates of the groups
    def made(base: float) -> Schedule:
        found: Schedule = make(**values, **dict.fromkeys(rates, base))
        return found

    return made


def group_schedules(settings: Settings, steps_per_epoch: int) -> dict[str, Rate]:
    """Schedules of parameter groups that have one of their own, by name."""
    exponent = settings.hanet.hanet_poly_exp
    if not exponent:
        return {}
    own = replace(settings, schedule=replace(settings.schedule, poly_exp=exponent))
    return {HANET_SCHEDULE: build_schedule(own, steps_per_epoch)}


def cooldown_epochs(schedule: ScheduleSettings) -> int:
    """Epochs at the lowest rate after --max_epoch; where the user says nothing a 30th of it."""
    if not schedule_reads(schedule, "cooldown_epochs"):
        return 0
    given = schedule.cooldown_epochs
    return schedule.max_epoch // 30 if given is None else given
