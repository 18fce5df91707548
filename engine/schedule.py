# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules as pure functions of the position, so a resume is exact.

Each function here returns another one that maps an epoch (or an iteration) to the factor of
the base learning rate: `group["lr"] = group["initial_lr"] * factor(epoch)`. Which of them
`--lr_schedule` takes, and what each is given: `settings/kinds.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from runtime.errors import UserError

Schedule = Callable[[float], float]


def poly(max_epoch: float, power: float = 1.0) -> Schedule:
    """(1 - e / max)^power of an epoch e, which may be fractional; 0 from `max_epoch` on.

    Source, also of `poly2` and `scl_poly`: recorded schedules of NVIDIA semantic-segmentation.
    """
    check_length(max_epoch)
    return lambda epoch: _decay(epoch / max_epoch, power)


def poly2(max_epoch: float, power: float = 1.0, double_from: float = 110) -> Schedule:
    """`poly` with an exponent that doubles from epoch `double_from` on."""
    check_length(max_epoch)
    return lambda epoch: _decay(epoch / max_epoch, power if epoch < double_from else 2 * power)


def scl_poly(
    max_epoch: float,
    *,
    start: float,
    power: float = 1.0,
    rescale: float = 1.0,
    second_power: float = 1.5,
) -> Schedule:
    """`poly` before epoch r = `start`, rescale * (1 - (e - r) / (max - r))^second_power from there.

    Raises UserError for a start outside the training.
    """
    check_length(max_epoch)
    if not 0 <= start < max_epoch:
        raise UserError(
            f"--lr_schedule scl-poly needs --rlx_off_epoch within 0..{max_epoch:g}, got {start}"
        )
    first = poly(max_epoch, power)

    def factor(epoch: float) -> float:
        if epoch < start:
            return first(epoch)
        return rescale * _decay((epoch - start) / (max_epoch - start), second_power)

    return factor


def scl_poly_iter(max_iter: int, *, start: int, **options: float) -> Schedule:
    """`scl_poly` over iterations."""
    if not 0 <= start < max_iter:
        raise UserError(f"--rlx_off_iter {start} is outside 0..{max_iter - 1} (max_iter)")
    return scl_poly(max_iter, start=start, **options)


def poly_to(
    max_iter: int,
    lr: float,
    min_lr: float,
    *,
    power: float = 1.0,
    warmup_iters: int = 0,
    warmup_ratio: float = 1e-6,
) -> Schedule:
    """`poly_iter` from the base rate `lr` to `min_lr`, which is an absolute rate."""
    return poly_iter(max_iter, power, warmup_iters, warmup_ratio, min_lr / lr)


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


def step_down(
    step: int | None,
    gamma: float = 0.1,
    warmup_iters: int = 0,
    warmup_ratio: float = 1e-6,
) -> Schedule:
    """The factor gamma^(i // step) of iteration (or epoch) i: a staircase with steps of length
    `step`, under the warm-up of `with_warmup`. UserError without a length."""
    if step is None:
        raise UserError("--lr_schedule step needs --lr_step N, the length of a step")
    return with_warmup(
        lambda position: float(gamma ** (position // step)), warmup_iters, warmup_ratio
    )


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
    lr: float,
    max_epoch: int,
    *,
    warmup_epochs: int | None = None,
    warmup_lr: float,
    min_lr: float,
) -> Schedule:
    """The factor of `lr` as a function of the epoch e, for rates

    * warmup_lr + e * (lr - warmup_lr) / warmup_epochs for e < warmup_epochs,
    * min_lr + (lr - min_lr) * (1 + cos(pi * e / max_epoch)) / 2 until max_epoch, so that the
      curve counts from epoch 0 and starts a little below `lr` after the warm-up,
    * min_lr from max_epoch on.

    Without `warmup_epochs` they are a 15th of max_epoch: 20 of 300. Raises UserError for a warm-up
    that is not shorter than the curve, and a rate out of order.
    Source: the published ImageNet recipe of HRViT (timm's cosine schedule).
    """
    warmup = max_epoch // 15 if warmup_epochs is None else warmup_epochs
    if not 0 <= warmup < max_epoch:
        raise UserError(f"--warmup_epochs {warmup} is not below --max_epoch {max_epoch}")
    if min_lr > lr:
        raise UserError(f"--min_lr {min_lr:g} is above --lr {lr:g}")

    def factor(epoch: float) -> float:
        if epoch < warmup:
            rate = warmup_lr + epoch * (lr - warmup_lr) / warmup
        elif epoch < max_epoch:
            rate = min_lr + (lr - min_lr) * (1 + math.cos(math.pi * epoch / max_epoch)) / 2
        else:
            rate = min_lr
        return rate / lr

    return factor


def check_length(length: float) -> None:
    """ValueError for a training of no length."""
    if length <= 0:
        raise ValueError(f"--max_epoch {length:g} has to be positive")


def _decay(share: float, exponent: float) -> float:
    """(1 - share)^exponent, and 0 beyond the end."""
    return float(max(1 - share, 0.0) ** exponent)
