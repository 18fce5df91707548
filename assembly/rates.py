# SPDX-License-Identifier: Apache-2.0
"""From settings to learning rates: the schedule of a run as a function of its position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from engine.hanet_groups import SCHEDULE as HANET_SCHEDULE
from engine.schedule import (
    Restart,
    Schedule,
    Stair,
    cosine,
    make_schedule,
    poly_iter,
    step_down,
    with_warmup,
)
from runtime.errors import UserError
from settings import Settings
from settings.schedule import ScheduleSettings

Rate = Callable[[int, int, float], float]  # (optimiser step, epoch, base rate of a group)


def learning_rate(settings: Settings, world_size: int) -> float:
    """The base rate of this run: `--lr`, scaled to its images per step with --lr_batch."""
    optimiser, schedule = settings.optimiser, settings.schedule
    if optimiser.lr_batch is None:
        return optimiser.lr
    step = settings.data.bs_trn * world_size * optimiser.accum_steps
    rate = optimiser.lr * step / optimiser.lr_batch
    falls_to_it = schedule.lr_schedule == "cosine" or schedule.lr_by == "iter"
    if falls_to_it and schedule.min_lr > rate:
        raise UserError(
            f"--min_lr {schedule.min_lr:g} is above the rate of this run, --lr {optimiser.lr:g} x "
            f"{step}/{optimiser.lr_batch} = {rate:.2g} (--lr_batch); give a smaller --min_lr"
        )
    return rate


def build_schedule(settings: Settings, steps_per_epoch: int) -> Rate:
    """Learning rate from (optimiser step, epoch, base rate of a parameter group)."""
    schedule = settings.schedule
    if schedule.lr_schedule == "cosine":
        return lambda iteration, epoch, base: base * cosine_of(schedule, base)(epoch)
    updates = -(-steps_per_epoch // settings.optimiser.accum_steps)
    if schedule.lr_by == "iter":
        total = schedule.max_iter or schedule.max_epoch * updates
        return lambda iteration, epoch, base: base * by_iteration(settings, total, base)(iteration)
    by_epoch = make_schedule(
        schedule.lr_schedule,
        lr=settings.optimiser.lr,
        max_epoch=schedule.max_epoch if schedule.max_iter is None else schedule.max_iter / updates,
        poly_exp=schedule.poly_exp,
        poly_step=schedule.poly_step,
        restart=_restart(schedule, settings.loss.rlx_off_epoch),
        stair=_stair(schedule),
    )
    return lambda iteration, epoch, base: base * by_epoch(epoch)


def _restart(schedule: ScheduleSettings, start: int) -> Restart:
    """Where scl-poly begins anew; `start`: its epoch or iteration."""
    return Restart(epoch=start, rescale=schedule.rescale, power=schedule.repoly)


def _stair(schedule: ScheduleSettings) -> Stair | None:
    """The steps of `--lr_schedule step`."""
    if schedule.lr_step is None:
        return None
    return Stair(step=schedule.lr_step, gamma=schedule.lr_gamma)


def group_schedules(settings: Settings, steps_per_epoch: int) -> dict[str, Rate]:
    """Schedules of parameter groups that have one of their own, by name."""
    exponent = settings.hanet.hanet_poly_exp
    if not exponent:
        return {}
    own = replace(settings, schedule=replace(settings.schedule, poly_exp=exponent))
    return {HANET_SCHEDULE: build_schedule(own, steps_per_epoch)}


def by_iteration(settings: Settings, total: int, base: float) -> Schedule:
    """The factor of `--lr_by iter` for a base rate: `--min_lr` is an absolute rate."""
    schedule = settings.schedule
    warmup = 0 if settings.run.test_mode else schedule.warmup_iters  # longer than those few steps
    if schedule.lr_schedule == "step":
        assert schedule.lr_step is not None, "the rules let no step schedule pass without a step"
        stair = step_down(schedule.lr_step, schedule.lr_gamma)
        return with_warmup(stair, warmup, schedule.warmup_ratio)
    if schedule.lr_schedule == "scl-poly":
        return _scl_poly(settings, total)
    lowest = schedule.min_lr / base
    return poly_iter(total, schedule.poly_exp, warmup, schedule.warmup_ratio, lowest)


def _scl_poly(settings: Settings, total: int) -> Schedule:
    """Poly that starts again at iteration `--rlx_off_iter`."""
    schedule, start = settings.schedule, settings.loss.rlx_off_iter
    if not 0 <= start < total:
        raise UserError(f"--rlx_off_iter {start} is outside 0..{total - 1} (max_iter)")
    return make_schedule(
        "scl-poly",
        lr=settings.optimiser.lr,
        max_epoch=total,
        poly_exp=schedule.poly_exp,
        restart=_restart(schedule, start),
    )


def cosine_epochs(schedule: ScheduleSettings) -> tuple[int, int]:
    """Epochs of warm-up, and at the lowest rate after --max_epoch, of the cosine schedule.

    Where the user says nothing they are a 15th and a 30th of --max_epoch: 20 and 10 of 300.
    """
    warmup, cooldown = schedule.warmup_epochs, schedule.cooldown_epochs
    return (
        schedule.max_epoch // 15 if warmup is None else warmup,
        schedule.max_epoch // 30 if cooldown is None else cooldown,
    )


def cosine_of(schedule: ScheduleSettings, base: float) -> Schedule:
    """The factor of the cosine schedule for a base rate: its ends are absolute rates."""
    return cosine(
        base,
        schedule.max_epoch,
        warmup_epochs=cosine_epochs(schedule)[0],
        warmup_lr=schedule.warmup_lr,
        min_lr=schedule.min_lr,
    )
