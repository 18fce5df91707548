# SPDX-License-Identifier: Apache-2.0
"""Weights, gradients and optimiser states that are split over the processes: FSDP2, `--shard`.

Each process keeps its part of every weight as a DTensor. The parts of a block are put together
while its forward or backward pass needs them, and gradients are averaged as
DistributedDataParallel does, so a training gives the same weights either way. Files hold whole
tensors and know nothing of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

from engine.whole import Whole
from runtime.distributed import World, broadcast_contents

LISTS = (nn.ModuleList, nn.Sequential)


class Sharded(Whole):
    """Every process of `world` holds its part of each weight."""

    averages = True
    unfused = ("sgd",)

    def __init__(self, world: World) -> None:
        self.is_main = world.is_main
        self.mesh = init_device_mesh(world.device.type, (world.size,))

    def shard(self, net: nn.Module) -> None:
        """Split `net`, after all processes have taken weights and buffers of rank 0.

        A unit, which is whole while it computes, is each block of a trunk; another is what is left
        of `net`.
        """
        broadcast_contents(net)
        for unit in [*_units(net), net]:
            fully_shard(unit, mesh=self.mesh)

    @contextlib.contextmanager
    def gathered(self, net: nn.Module) -> Iterator[None]:
        """Inside, each process holds all weights of `net`: it computes without the others, which
        may see more images, or larger ones.
        """
        units = [part for part in net.modules() if isinstance(part, FSDPModule)]
        for unit in units:
            unit.set_reshard_after_forward(False, recurse=False)
            unit.unshard()
        try:
            yield
        finally:
            for unit in units:
                unit.set_reshard_after_forward(unit is not net, recurse=False)
                unit.reshard()

    def whole(self, tensor: Tensor) -> Tensor:
        """`tensor`, put together."""
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def whole_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """Whole tensors in the memory of rank 0's host, one after another; empty ones elsewhere."""

        def put_together(tensor: DTensor) -> Tensor:
            full = tensor.full_tensor()
            return full.cpu() if self.is_main else full.new_empty(0)

        found: dict[str, Any] = tree_map_only(DTensor, put_together, state)
        return found

    def local(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The parts of this process."""
        return [each.to_local() if isinstance(each, DTensor) else each for each in tensors]

    def load_weights(self, net: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Each process takes its part."""
        own = net.state_dict()
        net.load_state_dict({name: _part(own[name], value) for name, value in state.items()})

    def optimizer_state(
        self, optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Each process takes its part."""
        parameters = [item for group in optimizer.param_groups for item in group["params"]]
        numbers = [number for group in saved["param_groups"] for number in group["params"]]
        own = dict(zip(numbers, parameters, strict=False))  # torch refuses other numbers
        state = {
            number: {name: _part(own.get(number), value) for name, value in kept.items()}
            for number, kept in saved["state"].items()
        }
        return {**saved, "state": state}


def _part(own: Tensor | None, value: Any) -> Any:
    """What this process keeps of `value`, where that has the shape of a split `own`."""
    if not isinstance(own, DTensor) or not isinstance(value, Tensor) or value.shape != own.shape:
        return value
    # Every process has read all of it, so without a source nothing is sent.
    return distribute_tensor(
        value.to(own.device), own.device_mesh, own.placements, src_data_rank=None
    )


def _units(net: nn.Module) -> list[nn.Module]:
    """The innermost parts in lists of `net` that have parts and weights of their own.

    Those around them, the stages of a trunk, are not always called as a whole.
    """
    found: list[nn.Module] = []
    for part in net.children():
        inner = _units(part)
        has_parts = any(True for _ in part.children())
        is_block = isinstance(net, LISTS) and not isinstance(part, LISTS) and has_parts
        if not inner and is_block and any(True for _ in part.parameters()):
            inner = [part]
        found += inner
    return found
