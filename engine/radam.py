# SPDX-License-Identifier: Apache-2.0
"""RAdam whose steps can be left out on the device, as torch's fused optimisers allow it.

Source: Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", ICLR 2020,
algorithm 2; `eps` stands as in torch.optim.RAdam, whose state this one shares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class RAdam(torch.optim.RAdam):
    """torch's RAdam with decay apart from the step, for which `found_inf` = 1 means: not this one.

    `found_inf` is what torch.amp.GradScaler gives optimisers that know it: a float () on the
    device, or None.
    """

    found_inf: Tensor | None = None

    def __init__(self, params: Any, **options: Any) -> None:
        # capturable: the number of steps lies on the device
        super().__init__(params, decoupled_weight_decay=True, capturable=True, **options)
        self._step_supports_amp_scaling = True

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of every weight with a gradient; gradients become zeros if it is left out."""
        assert closure is None, "no training here needs one"
        for group in self.param_groups:
            weights = [item for item in group["params"] if item.grad is not None]
            if weights:
                self._step(group, weights)

    def _step(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        for item in weights:
            if not self.state[item]:
                self.state[item]["step"] = torch.zeros((), device=item.device)
                for name in ("exp_avg", "exp_avg_sq"):
                    self.state[item][name] = torch.zeros_like(item)
        steps, first, second = (
            [self.state[item][name] for item in weights]
            for name in ("step", "exp_avg", "exp_avg_sq")
        )
        gradients = [item.grad for item in weights if item.grad is not None]
        done = torch.ones((), device=weights[0].device)
        if self.found_inf is not None:  # then all below multiplies by 1 and adds 0
            done = 1 - self.found_inf
            for gradient in gradients:
                gradient.masked_fill_(self.found_inf > 0, 0)
        beta1, beta2 = group["betas"]
        torch._foreach_add_(steps, [done] * len(steps))
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"] * done)
        torch._foreach_mul_(first, 1 - (1 - beta1) * done)
        torch._foreach_add_(first, gradients, alpha=1 - beta1)
        torch._foreach_mul_(second, 1 - (1 - beta2) * done)
        torch._foreach_addcmul_(second, gradients, gradients, value=1 - beta2)
        plain, adaptive = _factors(torch.stack(steps), group["lr"], beta1, beta2)
        scales = torch._foreach_sqrt(second)
        torch._foreach_add_(scales, group["eps"])
        torch._foreach_reciprocal_(scales)
        torch._foreach_mul_(scales, (adaptive * done).float().unbind())
        torch._foreach_add_(scales, (plain * done).float().unbind())
        torch._foreach_addcmul_(weights, first, scales, value=-1)


def _factors(steps: Tensor, lr: float, beta1: float, beta2: float) -> tuple[Tensor, Tensor]:
    """What the first moment is multiplied by: alone, and divided by the root of the second.

    One of the two is 0, for each of `steps` (n,), which count from 1.
    """
    step = steps.double().clamp_min(1)  # 0 before the first that is not left out
    longest, decayed = 2 / (1 - beta2) - 1, beta2**step
    length = longest - 2 * step * decayed / (1 - decayed)
    ratio = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    rate = lr / (1 - beta1**step)
    adaptive = rate * (ratio * (1 - decayed)).clamp_min(0).sqrt()
    is_adaptive = length > 5
    return torch.where(is_adaptive, 0.0, rate), torch.where(is_adaptive, adaptive, 0.0)
