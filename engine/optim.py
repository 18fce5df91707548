# SPDX-License-Identifier: Apache-2.0
"""Which weights an optimiser changes, and their moving average."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from engine.auxiliary import freeze_auxiliary as freeze_auxiliary
from engine.auxiliary import has_auxiliary as has_auxiliary
from engine.whole import WHOLE, Whole
from runtime.errors import UserError


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


AverageFunction = Callable[[Any, Any, Any], None]


def weight_average(decay: float, holding: Whole = WHOLE) -> AverageFunction:
    """Moving average of weights and buffers for torch's `AveragedModel`, `decay` in 0..1.

    Update number n uses min(decay, (1 + n) / (10 + n)): without this warm-up the average of a
    short run still holds the batch-norm statistics of its first steps, which can be many times
    larger than those of the trained network.
    """

    def average(averaged: Any, current: Any, updates: Any) -> None:
        count = float(updates)
        update = get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))
        update(holding.local(averaged), holding.local(current), updates)

    return average
