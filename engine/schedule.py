# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules as pure functions of the position, so a resume is exact.

Each function here returns another one that maps an epoch (or an iteration) to the factor of
the base learning rate: `group["lr"] = group["initial_lr"] * factor(epoch)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from runtime.errors import UserError

Schedule = Callable[[float], float]
SCHEDULES = ("poly", "poly2", "scl-poly", "step")


@dataclass(frozen=True, kw_only=True)
class Restart:
    """The second curve of `scl-poly`: from `epoch` on, `rescale` times poly of `power`."""

    epoch: int = -1
    rescale: float = 1.0
    power: float = 1.5


@dataclass(frozen=True, kw_only=True)
class Stair:
    """`step`: the rate is multiplied by `gamma` every `step` epochs."""

    step: int
    gamma: float = 0.1


NO_RESTART = Restart()


def make_schedule(
    name: str,
    lr: float,
    max_epoch: float,
    *,
    poly_exp: float = 1.0,
    poly_step: float = 110,
    restart: Restart = NO_RESTART,
    stair: Stair | None = None,
) -> Schedule:
    """The factor as a function of the epoch, which may be fractional; 0 from `max_epoch` on.

    * `poly`: (1 - e / max)^poly_exp.
    * `poly2`: the exponent doubles from epoch `poly_step` on.
    * `scl-poly`: poly before epoch r = `restart.epoch`, from there on
      rescale * (1 - (e - r) / (max - r))^power of the restart.
    * `step`: gamma^(e // step) of the stair.

    The base rate `lr` does not enter the factor; it has to be positive. Raises ValueError if
    it is not or the name is unknown, UserError for `scl-poly` without a usable epoch r and for
    `step` without a stair.
    Source: recorded schedules of NVIDIA semantic-segmentation.
    """
    if lr <= 0 or max_epoch <= 0:
        raise ValueError(f"--lr {lr} and --max_epoch {max_epoch} have to be positive")

    def poly(epoch: float) -> float:
        return _decay(epoch / max_epoch, poly_exp)

    def poly2(epoch: float) -> float:
        return _decay(epoch / max_epoch, poly_exp if epoch < poly_step else 2 * poly_exp)

    def scl_poly(epoch: float) -> float:
        if epoch < restart.epoch:
            return poly(epoch)
        share = (epoch - restart.epoch) / (max_epoch - restart.epoch)
        return restart.rescale * _decay(share, restart.power)

    if name == "scl-poly" and not 0 <= restart.epoch < max_epoch:
        raise UserError(
            f"--lr_schedule scl-poly needs --rlx_off_epoch within 0..{max_epoch:g}, "
            f"got {restart.epoch}"
        )
    if name == "step":
        if stair is None:
            raise UserError("--lr_schedule step needs --lr_step N, the length of a step")
        return step_down(stair.step, stair.gamma)
    schedules: dict[str, Schedule] = {"poly": poly, "poly2": poly2, "scl-poly": scl_poly}
    if name not in schedules:
        raise ValueError(f"--lr_schedule {name} is unknown; there are {', '.join(SCHEDULES)}")
    return schedules[name]


def poly_iter(
    max_iter: int,
    power: float = 1.0,
    warmup_iters: int = 0,
    warmup_ratio: float = 1e-6,
    min_factor: float = 0.0,
) -> Schedule:
    """The factor as a function of the iteration: poly decay under a linear warm-up.

    Iteration i has r = (1 - min_factor) * (1 - i/max_iter)^power + min_factor; the warm-up of
    `with_warmup` multiplies it. `min_factor` is the smallest rate divided by the base rate.
    Raises UserError if the warm-up is longer than the training.
    """
    if not 0 <= warmup_iters <= max_iter or max_iter <= 0:
        raise UserError(f"--warmup_iters {warmup_iters} is outside 0..{max_iter} (max_iter)")

    def factor(iteration: float) -> float:
        return (1 - min_factor) * _decay(iteration / max_iter, power) + min_factor

    return with_warmup(factor, warmup_iters, warmup_ratio)


def step_down(step: int, gamma: float = 0.1) -> Schedule:
    """The factor gamma^(i // step) of iteration (or epoch) i: a staircase with steps of length
    `step`."""
    return lambda position: float(gamma ** (position // step))


def with_warmup(regular: Schedule, warmup_iters: int, warmup_ratio: float = 1e-6) -> Schedule:
    """`regular`, multiplied in iteration i < W by 1 - (1 - i/W) * (1 - warmup_ratio).

    The warm-up multiplies the decaying value, so the curve has no jump at W.
    """

    def factor(iteration: float) -> float:
        value = regular(iteration)
        if iteration < warmup_iters:
            value *= 1 - (1 - iteration / warmup_iters) * (1 - warmup_ratio)
        return value

    return factor


def cosine(
    lr: float, max_epoch: int, *, warmup_epochs: int = 20, warmup_lr: float, min_lr: float
) -> Schedule:
    """The factor of `lr` as a function of the epoch e, for rates

    * warmup_lr + e * (lr - warmup_lr) / warmup_epochs for e < warmup_epochs,
    * min_lr + (lr - min_lr) * (1 + cos(pi * e / max_epoch)) / 2 until max_epoch, so that the
      curve counts from epoch 0 and starts a little below `lr` after the warm-up,
    * min_lr from max_epoch on.

    Raises UserError for a warm-up that is not shorter than the curve, and a rate out of order.
    Source: the published ImageNet recipe of HRViT (timm's cosine schedule).
    """
    if not 0 <= warmup_epochs < max_epoch:
        raise UserError(f"--warmup_epochs {warmup_epochs} is not below --max_epoch {max_epoch}")
    if min_lr > lr:
        raise UserError(f"--min_lr {min_lr:g} is above --lr {lr:g}")

    def factor(epoch: float) -> float:
        if epoch < warmup_epochs:
            rate = warmup_lr + epoch * (lr - warmup_lr) / warmup_epochs
        elif epoch < max_epoch:
            rate = min_lr + (lr - min_lr) * (1 + math.cos(math.pi * epoch / max_epoch)) / 2
        else:
            rate = min_lr
        return rate / lr

    return factor


def _decay(share: float, exponent: float) -> float:
    """(1 - share)^exponent, and 0 beyond the end."""
    return float(max(1 - share, 0.0) ** exponent)
