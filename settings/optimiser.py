# SPDX-License-Identifier: Apache-2.0
"""The optimiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from settings.convert import betas, param_rules
from settings.declare import BETWEEN_EPOCHS, BOTH, IN_FILE, REFUSED, Bounds, Group, setting
from settings.kinds import OPTIMISERS, optimiser_reading
from settings.needs import TRAINS
from settings.ranges import (
    BATCH,
    FRACTION,
    POSITIVE_COUNT,
    POSITIVE_FACTOR,
    POSITIVE_RATE,
    RATE,
    SHARE,
)


@dataclass(frozen=True, kw_only=True)
class OptimiserSettings:
    """The rule that changes weights, and what it is applied to."""

    GROUP: ClassVar[Group] = Group(title="optimisation", task=BOTH)

    lr: float = setting(
        0.002, "--lr", bounds=POSITIVE_RATE, help="base learning rate", classify=0.0005
    )
    optimizer: str = setting(
        "sgd",
        "--optimizer",
        choices=tuple(OPTIMISERS),
        help="rule that changes the weights",
        classify="adamw",
        resume=REFUSED,
    )
    momentum: float = setting(0.9, "--momentum", bounds=FRACTION, help="SGD momentum")
    betas: tuple[float, float] = setting(
        (0.9, 0.999),
        "--betas",
        parse=betas,
        help="decays of the two averages of adam and its kin",
        needs=optimiser_reading("betas"),
    )
    adam_eps: float = setting(
        1e-08,
        "--adam_eps",
        bounds=SHARE,
        help="number added to the root by which adam and its kin divide",
        needs=optimiser_reading("adam_eps"),
    )
    weight_decay: float = setting(
        0.0001, "--weight_decay", bounds=RATE, help="weight decay of the parameters", classify=0.05
    )
    param_rules: tuple[tuple[str, float, float], ...] | None = setting(
        None,
        "--param_rules",
        parse=param_rules,
        help="factors for parameters whose name contains KEY, e.g. head:lr=10,norm:decay=0",
        metavar="KEY:lr=F,KEY:decay=F",
        resume=IN_FILE,
    )
    layer_decay: float | None = setting(
        None,
        "--layer_decay",
        bounds=Bounds(0, 1, above=True),
        help="factor of the rate from each layer of the trunk to the one below it, e.g. 0.75",
        needs=TRAINS,
        excludes=("hanet_lr", "backbone_lr"),
        resume=IN_FILE,
    )
    amsgrad: bool = setting(
        False,
        "--amsgrad",
        help="AMSGrad variant of adam and adamw",
        needs=optimiser_reading("amsgrad"),
        resume=REFUSED,
    )
    accum_steps: int = setting(
        1,
        "--accum_steps",
        bounds=BATCH,
        help="batches whose gradients are added up before a step",
        resume=BETWEEN_EPOCHS,
    )
    lr_batch: int | None = setting(
        None,
        "--lr_batch",
        bounds=POSITIVE_COUNT,
        help="images per step that --lr is meant for: it is scaled to those of the run",
    )
    clip_grad: float | None = setting(
        None,
        "--clip_grad",
        bounds=POSITIVE_FACTOR,
        help="largest norm of the gradient; longer ones are shortened",
    )
    ema: float | None = setting(
        None,
        "--ema",
        bounds=Bounds(0, 0.999999),
        help="decay of a moving average of the weights, which is evaluated instead of them",
    )
    syncbn: bool = setting(
        False, "--syncbn", help="synchronised batch norm; plain with one CUDA rank"
    )
