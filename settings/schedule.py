# SPDX-License-Identifier: Apache-2.0
"""Learning rate over time and length of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from settings.declare import BOTH, UNRELATED, Bounds, Group, Need, setting
from settings.kinds import SCHEDULES, schedule_reading
from settings.ranges import COUNT, FRACTION, POSITIVE_COUNT, POSITIVE_EXPONENT, RATE


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """The learning rate over time, and how long training lasts."""

    GROUP: ClassVar[Group] = Group(title="schedule", task=BOTH)

    lr_schedule: str = setting(
        "poly",
        "--lr_schedule",
        choices=tuple(SCHEDULES),
        help="how the learning rate falls over time",
        classify="cosine",
    )
    lr_by: str | None = setting(
        None,
        "--lr_by",
        choices=("epoch", "iter"),
        help="when the schedule steps; iter with --max_iter where it can, else epoch",
    )
    max_epoch: int = setting(
        180, "--max_epoch", bounds=POSITIVE_COUNT, help="training length in epochs", classify=300
    )
    max_iter: int | None = setting(
        None,
        "--max_iter",
        bounds=POSITIVE_COUNT,
        help="training length in iterations instead",
        excludes=("max_epoch",),
    )
    start_epoch: int = setting(
        0,
        "--start_epoch",
        bounds=COUNT,
        help="number of the first epoch, without --resume",
        resume=UNRELATED,
    )
    poly_exp: float = setting(
        1.0, "--poly_exp", bounds=POSITIVE_EXPONENT, help="exponent of the poly schedules"
    )
    poly_step: int = setting(
        110,
        "--poly_step",
        bounds=POSITIVE_COUNT,
        help="poly2: epoch from which on the exponent is doubled",
        needs=schedule_reading("poly_step"),
    )
    rescale: float = setting(
        1.0,
        "--rescale",
        bounds=Bounds(0, 1e24, above=True),
        help="scl-poly: factor of the rate after --rlx_off_epoch",
        needs=schedule_reading("rescale"),
        idle=True,
    )
    repoly: float = setting(
        1.5,
        "--repoly",
        bounds=POSITIVE_EXPONENT,
        help="scl-poly: exponent after --rlx_off_epoch",
        needs=schedule_reading("repoly"),
        idle=True,
    )
    lr_step: int | None = setting(
        None,
        "--lr_step",
        bounds=POSITIVE_COUNT,
        help="step: epochs (or iterations) of one rate",
        needs=schedule_reading("lr_step"),
    )
    lr_gamma: float = setting(
        0.1,
        "--lr_gamma",
        bounds=FRACTION,
        help="step: factor from one rate to the next",
        needs=schedule_reading("lr_gamma"),
    )
    min_lr: float = setting(
        0.0,
        "--min_lr",
        bounds=RATE,
        help="last learning rate of cosine, and of poly by iteration",
        needs=schedule_reading("min_lr"),
        classify=1e-05,
    )
    warmup_iters: int = setting(
        0,
        "--warmup_iters",
        bounds=COUNT,
        help="iterations over which the rate rises linearly to its start",
        needs=Need(lambda s: s.schedule.lr_by == "iter", "--lr_by iter"),
    )
    warmup_ratio: float = setting(
        1e-06,
        "--warmup_ratio",
        bounds=FRACTION,
        help="factor of the rate in the first iteration of --warmup_iters",
        needs=Need(lambda s: s.schedule.warmup_iters > 0, "--warmup_iters N"),
    )
    warmup_epochs: int | None = setting(
        None,
        "--warmup_epochs",
        bounds=COUNT,
        help="cosine: epochs of linear warm-up; none: --max_epoch / 15",
        needs=schedule_reading("warmup_epochs"),
    )
    warmup_lr: float = setting(
        1e-06,
        "--warmup_lr",
        bounds=RATE,
        help="cosine: learning rate of epoch 0, where there is a warm-up",
        needs=schedule_reading("warmup_lr"),
    )
    cooldown_epochs: int | None = setting(
        None,
        "--cooldown_epochs",
        bounds=COUNT,
        help="cosine: epochs at --min_lr after the schedule; none: --max_epoch / 30",
        needs=schedule_reading("cooldown_epochs"),
    )
