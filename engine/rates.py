# SPDX-License-Identifier: Apache-2.0
"""From flags to learning rates: the schedule of a run as a function of its position."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from config import UserError
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
from runtime.distributed import World


def learning_rate(args: argparse.Namespace, world: World) -> float:
    """The base rate of this run: `--lr`, scaled to its images a step where --lr_batch is given."""
    if args.lr_batch is None:
        return float(args.lr)
    step = args.bs_trn * world.size * args.accum_steps
    rate = float(args.lr) * step / args.lr_batch
    falls_to_it = args.lr_schedule == "cosine" or args.lr_by == "iter"
    if falls_to_it and args.min_lr > rate:
        raise UserError(
            f"--min_lr {args.min_lr:g} is above the rate of this run, --lr {args.lr:g} x "
            f"{step}/{args.lr_batch} = {rate:.2g} (--lr_batch); give a smaller --min_lr"
        )
    return rate


def build_schedule(
    args: argparse.Namespace, steps_per_epoch: int
) -> Callable[[int, int, float], float]:
    """Learning rate from (optimiser step, epoch, base rate of a parameter group)."""
    if args.lr_schedule == "cosine":
        return lambda iteration, epoch, base: base * cosine_of(args, base)(epoch)
    updates = -(-steps_per_epoch // args.accum_steps)
    if args.lr_by == "iter":
        total = args.max_iter or args.max_epoch * updates
        return lambda iteration, epoch, base: base * by_iteration(args, total, base)(iteration)
    by_epoch = make_schedule(
        args.lr_schedule,
        lr=args.lr,
        max_epoch=args.max_epoch if args.max_iter is None else args.max_iter / updates,
        poly_exp=args.poly_exp,
        poly_step=args.poly_step,
        restart=Restart(epoch=args.rlx_off_epoch, rescale=args.rescale, power=args.repoly),
        stair=None if args.lr_step is None else Stair(step=args.lr_step, gamma=args.lr_gamma),
    )
    return lambda iteration, epoch, base: base * by_epoch(epoch)


def group_schedules(
    args: argparse.Namespace, steps_per_epoch: int
) -> dict[str, Callable[[int, int, float], float]]:
    """Schedules of parameter groups that have one of their own, by name."""
    if not args.hanet_poly_exp:
        return {}
    own = argparse.Namespace(**{**vars(args), "poly_exp": args.hanet_poly_exp})
    return {HANET_SCHEDULE: build_schedule(own, steps_per_epoch)}


def by_iteration(args: argparse.Namespace, total: int, base: float) -> Schedule:
    """The factor of `--lr_by iter` for a base rate: `--min_lr` is an absolute rate."""
    warmup = 0 if args.test_mode else args.warmup_iters  # longer than those few steps
    if args.lr_schedule == "step":
        assert args.lr_step is not None, "flag_rules let --lr_schedule step pass without a step"
        stair = step_down(args.lr_step, args.lr_gamma)
        return with_warmup(stair, warmup, args.warmup_ratio)
    if args.lr_schedule == "scl-poly":
        return _scl_poly(args, total)
    return poly_iter(total, args.poly_exp, warmup, args.warmup_ratio, args.min_lr / base)


def _scl_poly(args: argparse.Namespace, total: int) -> Schedule:
    """Poly that starts again at iteration `--rlx_off_iter`."""
    if not 0 <= args.rlx_off_iter < total:
        raise UserError(f"--rlx_off_iter {args.rlx_off_iter} is outside 0..{total - 1} (max_iter)")
    return make_schedule(
        "scl-poly",
        lr=args.lr,
        max_epoch=total,
        poly_exp=args.poly_exp,
        restart=Restart(epoch=args.rlx_off_iter, rescale=args.rescale, power=args.repoly),
    )


def cosine_epochs(args: argparse.Namespace) -> tuple[int, int]:
    """Epochs of warm-up, and at the lowest rate after --max_epoch, of the cosine schedule.

    Where the user says nothing they are a 15th and a 30th of --max_epoch: 20 and 10 of 300.
    """
    warmup, cooldown = args.warmup_epochs, args.cooldown_epochs
    return (
        args.max_epoch // 15 if warmup is None else warmup,
        args.max_epoch // 30 if cooldown is None else cooldown,
    )


def cosine_of(args: argparse.Namespace, base: float) -> Schedule:
    """The factor of the cosine schedule for a base rate: its ends are absolute rates."""
    rates = {"warmup_lr": args.warmup_lr, "min_lr": args.min_lr}
    return cosine(base, args.max_epoch, warmup_epochs=cosine_epochs(args)[0], **rates)
