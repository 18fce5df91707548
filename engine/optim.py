# SPDX-License-Identifier: Apache-2.0
"""Optimisers by name: torch's own classes, which reproduce the recorded steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, optim

OPTIMIZERS = ("sgd", "adam", "radam", "adamw")


def make_optimizer(
    params: Iterable[Tensor] | Iterable[dict[str, Any]],
    name: str,
    *,
    lr: float,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    amsgrad: bool = False,
) -> optim.Optimizer:
    """An optimiser over `params` (tensors or torch's parameter groups).

    `sgd` has no Nesterov step; `adam` adds the decay to the gradient; `radam` and `adamw`
    shrink the weights by lr * weight_decay apart from the step. `momentum` belongs to `sgd`,
    `amsgrad` to `adam` and `adamw`. Raises ValueError for another name.

    Source: radam is Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond",
    ICLR 2020, algorithm 2.
    """
    if name == "sgd":
        return optim.SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
    if name == "adam":
        return optim.Adam(params, lr=lr, weight_decay=weight_decay, amsgrad=amsgrad)
    if name == "radam":
        return optim.RAdam(params, lr=lr, weight_decay=weight_decay, decoupled_weight_decay=True)
    if name == "adamw":
        return optim.AdamW(params, lr=lr, weight_decay=weight_decay, amsgrad=amsgrad)
    raise ValueError(f"--optimizer {name} is unknown; there are {', '.join(OPTIMIZERS)}")
