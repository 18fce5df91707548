# SPDX-License-Identifier: Apache-2.0
"""What a training forward changes besides gradients: batch-norm statistics and their counters."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Statistics:
    """The buffers of a network that checkpoints hold, which a step can take back.

    Those of one device and number format are remembered and restored together, as one piece of
    memory: a few operations, however many layers there are.
    """

    def __init__(self, net: nn.Module) -> None:
        held = net.state_dict(keep_vars=True)
        kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for name, buffer in net.named_buffers():
            if name in held:
                kinds.setdefault((buffer.device, buffer.dtype), []).append(buffer)
        self._kinds = list(kinds.values())
        self._before: list[Tensor] = []

    def remember(self) -> None:
        """Before a step: what `restore` brings back."""
        self._before = [_joined(buffers) for buffers in self._kinds]

    def restore(self, wanted: Tensor) -> None:
        """Bring it back if `wanted`, a bool () on the device, holds."""
        for buffers, before in zip(self._kinds, self._before, strict=True):
            chosen = torch.where(wanted, before, _joined(buffers))
            parts = chosen.split([buffer.numel() for buffer in buffers])
            shaped = [part.view_as(own) for part, own in zip(parts, buffers, strict=True)]
            torch._foreach_copy_(buffers, shaped)


def _joined(buffers: list[Tensor]) -> Tensor:
    return torch.cat([buffer.flatten() for buffer in buffers])
