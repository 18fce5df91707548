# SPDX-License-Identifier: Apache-2.0
"""What a training forward changes besides gradients: batch-norm statistics and their counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Statistics:
    """The buffers of a network that checkpoints hold, which a step can take back.

    From here on they are parts of one piece of memory for each device and number format, so that
    remembering and restoring them is one operation, however many layers there are.
    """

    def __init__(self, net: nn.Module) -> None:
        held = net.state_dict(keep_vars=True)
        kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for name, buffer in net.named_buffers():
            if name in held:
                kinds.setdefault((buffer.device, buffer.dtype), []).append(buffer)
        self._now = [_joined(buffers) for buffers in kinds.values()]
        self._before = [torch.empty_like(now) for now in self._now]

    def remember(self) -> None:
        """Before a step: what `restore` brings back."""
        for now, before in zip(self._now, self._before, strict=True):
            before.copy_(now)

    def restore(self, wanted: Tensor) -> None:
        """Bring it back if `wanted`, a bool () on the device, holds."""
        for now, before in zip(self._now, self._before, strict=True):
            torch.where(wanted, before, now, out=now)


@torch.no_grad()
def _joined(buffers: list[Tensor]) -> Tensor:
    """One tensor that holds all `buffers`, which are views of it afterwards."""
    joined = torch.cat([buffer.flatten() for buffer in buffers])
    parts = joined.split([buffer.numel() for buffer in buffers])
    for buffer, part in zip(buffers, parts, strict=True):
        buffer.data = part.view(buffer.shape)
    return joined


def apart(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict in which no tensor is a part of a larger piece of memory."""
    return {name: value.clone() if _is_part(value) else value for name, value in state.items()}


def _is_part(value: Any) -> bool:
    return isinstance(value, Tensor) and value.untyped_storage().nbytes() > value.nbytes
