# SPDX-License-Identifier: Apache-2.0
"""Optimisers and schedules by name: what makes each of them, and which settings it reads.

A row is all there is to say: the choices of `--optimizer` and `--lr_schedule`, what a setting has
no effect without, and whether a schedule goes by iteration follow from it. Makers stand as text,
"module:name", so that reading settings does not load torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from settings.declare import Need

if TYPE_CHECKING:
    from settings.schedule import ScheduleSettings

LENGTH = "length of the training"  # in the unit of the curve: epochs or optimiser steps
BASE_RATE = "base rate"  # of a parameter group; for curves between absolute rates


@dataclass(frozen=True, kw_only=True)
class OptimiserKind:
    """An optimiser.

    made_by: its class, called with parameter groups, `lr`, `weight_decay`, what it `reads`
    (parameter -> setting), and `fixed` options.
    """

    made_by: str
    reads: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, object] = field(default_factory=dict)


FUSED = {"fused": True}  # one pass over memory, and a device can leave out a step by itself
MOMENTS = {"betas": "betas", "eps": "adam_eps"}

# radam is Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", ICLR 2020,
# algorithm 2. adam adds the decay to the gradient; radam and adamw shrink the weights by
# lr * weight_decay apart from the step.
OPTIMISERS: dict[str, OptimiserKind] = {
    "sgd": OptimiserKind(made_by="torch.optim:SGD", reads={"momentum": "momentum"}, fixed=FUSED),
    "adam": OptimiserKind(
        made_by="torch.optim:Adam", reads={**MOMENTS, "amsgrad": "amsgrad"}, fixed=FUSED
    ),
    "radam": OptimiserKind(made_by="engine.radam:RAdam", reads=MOMENTS),
    "adamw": OptimiserKind(
        made_by="torch.optim:AdamW", reads={**MOMENTS, "amsgrad": "amsgrad"}, fixed=FUSED
    ),
}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The factor of the learning rate over epochs, or over optimiser steps.

    made_by: a function that returns a `Schedule`, called with what it `takes`: parameter ->
    setting, LENGTH or BASE_RATE.
    """

    made_by: str
    takes: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ScheduleKind:
    """A schedule.

    by_iteration: None where it goes by epoch alone; with `since`, the name of a setting, only if
    that is at least 0. requires: settings without a default that must be given. whole_epochs: a
    length from `--max_iter`, which may end inside an epoch, is refused. also: settings that
    are read besides those of the curves.
    """

    by_epoch: Curve
    by_iteration: Curve | None = None
    since: str = ""
    requires: tuple[str, ...] = ()
    whole_epochs: bool = False
    also: tuple[str, ...] = ()

    def curve(self, unit: str | None) -> Curve:
        """That of `--lr_by` "iter" or "epoch"."""
        return self.by_iteration if unit == "iter" and self.by_iteration else self.by_epoch

    def reads(self, setting: str, unit: str | None) -> bool:
        """Whether `setting` has an effect with `--lr_by` `unit`."""
        return setting in self.curve(unit).takes.values() or setting in self.also


WARM_UP = {"warmup_iters": "warmup_iters", "warmup_ratio": "warmup_ratio"}
STAIR = {"step": "lr_step", "gamma": "lr_gamma"}
SECOND = {"power": "poly_exp", "rescale": "rescale", "second_power": "repoly"}

SCHEDULES: dict[str, ScheduleKind] = {
    "poly": ScheduleKind(
        by_epoch=Curve(
            made_by="engine.schedule:poly", takes={"max_epoch": LENGTH, "power": "poly_exp"}
        ),
        by_iteration=Curve(
            made_by="engine.schedule:poly_to",
            takes={
                "max_iter": LENGTH,
                "lr": BASE_RATE,
                "min_lr": "min_lr",
                "power": "poly_exp",
                **WARM_UP,
            },
        ),
    ),
    "poly2": ScheduleKind(
        by_epoch=Curve(
            made_by="engine.schedule:poly2",
            takes={"max_epoch": LENGTH, "power": "poly_exp", "double_from": "poly_step"},
        ),
    ),
    "scl-poly": ScheduleKind(
        by_epoch=Curve(
            made_by="engine.schedule:scl_poly",
            takes={"max_epoch": LENGTH, "start": "rlx_off_epoch", **SECOND},
        ),
        by_iteration=Curve(
            made_by="engine.schedule:scl_poly_iter",
            takes={"max_iter": LENGTH, "start": "rlx_off_iter", **SECOND},
        ),
        since="rlx_off_iter",
        also=("rlx_off_epoch", "rlx_off_iter"),
    ),
    "step": ScheduleKind(
        by_epoch=Curve(made_by="engine.schedule:step_down", takes=STAIR),
        by_iteration=Curve(made_by="engine.schedule:step_down", takes={**STAIR, **WARM_UP}),
        requires=("lr_step",),
    ),
    "cosine": ScheduleKind(
        by_epoch=Curve(
            made_by="engine.schedule:cosine",
            takes={
                "lr": BASE_RATE,
                "max_epoch": LENGTH,
                "warmup_epochs": "warmup_epochs",
                "warmup_lr": "warmup_lr",
                "min_lr": "min_lr",
            },
        ),
        whole_epochs=True,
        also=("cooldown_epochs",),
    ),
}


def schedule_of(schedule: ScheduleSettings) -> ScheduleKind:
    """The row of `--lr_schedule`."""
    return SCHEDULES[schedule.lr_schedule]


def schedule_reads(schedule: ScheduleSettings, setting: str) -> bool:
    """Whether the chosen schedule reads `setting`."""
    return schedule_of(schedule).reads(setting, schedule.lr_by)


def optimiser_reading(setting: str) -> Need:
    """An optimiser that reads `setting`."""
    names = [name for name, kind in OPTIMISERS.items() if setting in kind.reads.values()]
    return Need(lambda s: s.optimiser.optimizer in names, f"--optimizer {listed(names)}")


def schedule_reading(setting: str) -> Need:
    """A schedule that reads `setting`, some only by iteration."""
    always = [name for name, kind in SCHEDULES.items() if kind.reads(setting, "epoch")]
    stepwise = [
        name
        for name, kind in SCHEDULES.items()
        if name not in always and kind.reads(setting, "iter")
    ]
    parts = [listed(always)] if always else []
    if stepwise:
        parts.append(f"{listed(stepwise)} and --lr_by iter")
    text = f"--lr_schedule {', or '.join(parts)}"
    return Need(lambda s: schedule_reads(s.schedule, setting), text)


def listed(names: Iterable[str]) -> str:
    """["a", "b", "c"] as "a, b or c"."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
