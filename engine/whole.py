# SPDX-License-Identifier: Apache-2.0
"""How the processes of a training hold its weights: each has all of them, as here, or a part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


class Whole:
    """Every process holds all weights. `engine.sharded` has what is different with `--shard`.

    `averages`: gradients are averaged over the processes without DistributedDataParallel.
    `unfused`: optimisers without fused kernels for such weights.
    """

    averages = False
    unfused: tuple[str, ...] = ()

    def shard(self, net: nn.Module) -> None:
        """Leave on each process its part of `net`, in place; collective."""

    def gathered(self, net: nn.Module) -> AbstractContextManager[None]:
        """Inside, each process can compute with `net` alone; collective."""
        del net
        return nullcontext()

    def whole(self, tensor: Tensor) -> Tensor:
        """`tensor` of all processes; collective."""
        return tensor

    def whole_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """A state dict with whole tensors, for rank 0 to write; collective."""
        return state

    def local(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """What this process holds of `tensors`, as memory that can be changed in place."""
        return list(tensors)

    def load_weights(self, net: nn.Module, state: Mapping[str, Tensor]) -> None:
        """`net.load_state_dict` of whole tensors, which every process has."""
        net.load_state_dict(state)

    def optimizer_state(
        self, optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]
    ) -> dict[str, Any]:
        """A saved state with whole tensors, as `optimizer.load_state_dict` takes it."""
        del optimizer
        return dict(saved)


WHOLE = Whole()
