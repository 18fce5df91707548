# SPDX-License-Identifier: Apache-2.0
"""How long a training is, when it validates and saves, and how it steps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """Lengths are in epochs, steps in loader batches of one rank."""

    max_epoch: int
    max_steps: int | None = None  # batches of one epoch that are used (a quick check)
    max_iter: int | None = None  # optimiser steps after which training ends
    val_freq: int = 1
    val_iters: int | None = None  # optimiser steps between validations, instead of val_freq
    save_iters: int = 0
    accum_steps: int = 1
    clip_grad: float | None = None
    channels_last: bool = False
    compile: bool = False
    best_by: str = "mean_iu"  # the score that decides which checkpoint is best
    positions: bool = True  # row positions go to the network
    patience: int | None = None  # validations in a row without a better score that end training
