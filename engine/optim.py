# SPDX-License-Identifier: Apache-2.0
"""Which weights an optimiser changes, what it keeps of them, and their moving average."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

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


SCALARS = ("step",)  # of the state of an optimiser: not tensors of the shape of the weight


class WeightAverage(AveragedModel):
    """Moving average of weights and buffers, `decay` in 0..1; updated without waiting.

    Update number n uses min(decay, (1 + n) / (10 + n)), and the first one takes the network
    over, up to rounding: without this warm-up the average of a short run still holds the batch-norm
    statistics of its first steps, which can be many times larger than those of the trained network.
    """

    n_averaged: Tensor

    def __init__(self, net: nn.Module, decay: float, holding: Whole = WHOLE) -> None:
        super().__init__(net, use_buffers=True)
        self.decay, self.holding = decay, holding

    @torch.no_grad()
    def update_parameters(self, model: nn.Module, skipped: Tensor | None = None) -> None:
        """Take in `model`, or nothing if `skipped`, a bool () on its device, holds.

        `model` is finite then, too: it is what it was before the step that was left out.
        """
        own, new = (self.holding.local(_contents(net)) for net in (self.module, model))
        if skipped is None:
            skipped = torch.zeros((), dtype=torch.bool, device=own[0].device)
        count = self.n_averaged.to(skipped.device, torch.float64)
        share = 1 - ((1 + count) / (10 + count)).clamp_max(self.decay)
        share = torch.where(count > 0, share, 1.0) * ~skipped
        for dtype in {each.dtype for each in own}:
            averages = [each for each in own if each.dtype == dtype]
            values = [each for each in new if each.dtype == dtype]
            if dtype.is_floating_point:
                steps = torch._foreach_sub(values, averages)
                torch._foreach_mul_(steps, share.to(dtype))
                torch._foreach_add_(averages, steps)
            else:  # counters
                torch._foreach_copy_(averages, values)
        self.n_averaged += ~skipped


def _contents(net: nn.Module) -> list[Tensor]:
    """Weights and buffers."""
    return [item.detach() for item in (*net.parameters(), *net.buffers())]


def arrange_moments(optimizer: torch.optim.Optimizer) -> None:
    """Make the state of `optimizer` what its fused steps take for granted; call before the first.

    torch's fused SGD creates its momentum in the first step, without values if that step is left
    out: here it starts as zeros, which give the same. And on a CPU fused steps read memory as it
    lies, so moments from a file of another memory format get that of their weights.
    """
    for group in optimizer.param_groups:
        for item in group["params"]:
            if isinstance(optimizer, torch.optim.SGD) and group["momentum"]:
                state = optimizer.state[item]
                if state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = torch.zeros_like(item, requires_grad=False)
            state = optimizer.state.get(item, {})
            for name, value in state.items():
                if (
                    name not in SCALARS
                    and isinstance(value, Tensor)
                    and value.stride() != item.stride()
                ):
                    state[name] = torch.empty_like(item, requires_grad=False).copy_(value)
