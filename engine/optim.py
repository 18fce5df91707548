# SPDX-License-Identifier: Apache-2.0
"""Optimisers by name: torch's own classes, which reproduce the recorded steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn, optim
from torch.optim.swa_utils import get_ema_multi_avg_fn

from engine.auxiliary import freeze_auxiliary as freeze_auxiliary
from engine.auxiliary import has_auxiliary as has_auxiliary
from runtime.errors import UserError

OPTIMIZERS = ("sgd", "adam", "radam", "adamw")
Parameters = Iterable[Tensor] | Iterable[dict[str, Any]]


def freeze_others(net: nn.Module, texts: tuple[str, ...]) -> None:
    """Train only the parameters whose name contains one of `texts`, in place.

    Raises UserError for a text that no name contains, which is a typo.
    """
    names = [name for name, _ in net.named_parameters()]
    for text in texts:
        if not any(text in name for name in names):
            raise UserError(f"--train_only {text}: no weight has that in its name")
    for name, item in net.named_parameters():
        item.requires_grad_(any(text in name for text in texts))


def make_optimizer(
    params: Parameters,
    name: str,
    *,
    lr: float,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    amsgrad: bool = False,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> optim.Optimizer:
    """An optimiser over `params` (tensors or torch's parameter groups).

    `sgd` has no Nesterov step; `adam` adds the decay to the gradient; `radam` and `adamw`
    shrink the weights by lr * weight_decay apart from the step. `momentum` belongs to `sgd`,
    `amsgrad` to `adam` and `adamw`, `betas` and `eps` to all but `sgd`.
    Raises ValueError for another name.

    Source: radam is Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond",
    ICLR 2020, algorithm 2.
    """
    if name == "sgd":
        return optim.SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
    adaptive: dict[str, Any] = {
        "lr": lr,
        "weight_decay": weight_decay,
        "betas": betas,
        "eps": eps,
    }
    if name == "adam":
        return optim.Adam(params, amsgrad=amsgrad, **adaptive)
    if name == "radam":
        return optim.RAdam(params, decoupled_weight_decay=True, **adaptive)
    if name == "adamw":
        return optim.AdamW(params, amsgrad=amsgrad, **adaptive)
    raise ValueError(f"--optimizer {name} is unknown; there are {', '.join(OPTIMIZERS)}")


AverageFunction = Callable[[Any, Any, Any], None]


def weight_average(decay: float) -> AverageFunction:
    """Moving average of weights and buffers for torch's `AveragedModel`, `decay` in 0..1.

    Update number n uses min(decay, (1 + n) / (10 + n)): without this warm-up the average of a
    short run still holds the batch-norm statistics of its first steps, which can be many times
    larger than those of the trained network.
    """

    def average(averaged: Any, current: Any, updates: Any) -> None:
        count = float(updates)
        update = get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))
        update(averaged, current, updates)

    return average
