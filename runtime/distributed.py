# SPDX-License-Identifier: Apache-2.0
"""The processes of a run: joined from the launcher's environment, or one process alone."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from runtime.launch import joining, meet, read_launch

ENDING = "hiseg/ending"  # key of the store that all ranks share


@dataclass(frozen=True, kw_only=True)
class World:
    """Which of the `size` processes this is, and the device it computes on."""

    rank: int
    size: int
    local_rank: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0


def pick_device(name: str, local_rank: int) -> torch.device:
    """`auto` takes CUDA if there is a device; ValueError if `cuda` is requested but absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no CUDA device; use --device cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise ValueError(
            f"local rank {local_rank}: only {count} CUDA devices; start fewer processes"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def join(device_name: str, local_rank: int, wait: float = 600.0) -> World:
    """Join the process group that the launcher describes; NCCL for tensors on CUDA, else gloo.

    wait: seconds within which all processes must arrive. ValueError, in one line, if they do not,
    and for an environment that makes no sense.
    """
    rank, size = read_launch(local_rank)
    device = pick_device(device_name, local_rank)
    if size > 1 and not dist.is_initialized():
        # Hosts talk by gloo, so that what they tell one another does not wait for the devices.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        # A rank may build centroids or write large dumps for a long time while the others wait.
        timeout = timedelta(hours=2)
        with joining(rank, size, wait):
            store = meet(rank, size, wait, timeout)
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=size, timeout=timeout
            )
    return World(rank=rank, size=size, local_rank=local_rank, device=device)


def leave() -> None:
    """Leave the process group, if one was joined."""
    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait for all ranks; returns at once in a single process."""
    if dist.is_initialized():
        dist.barrier()


def all_reduce_sum(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` summed over the ranks, in place; unchanged in a single process."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def any_rank(flag: bool) -> bool:
    """True on every rank if `flag` is true on any of them; no host waits for its device."""
    if not dist.is_initialized():
        return flag
    tensor = torch.tensor(float(flag))
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return bool(tensor.item())


def gather_objects(value: Any) -> list[Any]:
    """The `value` of every rank, in rank order, on every rank."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def of_main(value: Any) -> Any:
    """The `value` of rank 0 on every rank."""
    return gather_objects(value)[0]


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The processes that share an evaluation, as this one sees them.

    `add` gives the sum of a tensor over the ranks, `gather` the objects of all ranks in rank order;
    both are collective.
    """

    rank: int = 0
    size: int = 1
    add: Callable[[torch.Tensor], torch.Tensor] = all_reduce_sum
    gather: Callable[[Any], list[Any]] = gather_objects


ALONE = Ranks()  # a process without others
APART = Ranks(add=lambda tensor: tensor, gather=lambda value: [value])  # one of many, on its own


def tell_ending(text: str) -> None:
    """Tell the other ranks how this one ends, unless another rank has done so before."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        with contextlib.suppress(Exception):  # the process that keeps the store may be gone
            store = distributed_c10d._get_default_store()
            if not store.check([ENDING]):
                store.set(ENDING, text)


def told_ending() -> str:
    """What the first rank to call `tell_ending` said; "" if nothing is known."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        with contextlib.suppress(Exception):
            store = distributed_c10d._get_default_store()
            if store.check([ENDING]):
                return bytes(store.get(ENDING)).decode()
    return ""


def keep_layouts(module: torch.nn.Module) -> None:
    """Give every gradient of `module` the strides of its parameter; no value changes.

    The convolutions of torch choose strides of their own along sides of length 1, such as the
    kernels (C, 1, K, K) of depthwise ones. The memory is the same either way, but
    DistributedDataParallel sees another layout than that of its buckets and warns.
    """
    for parameter in module.parameters():
        if parameter.requires_grad and 1 in parameter.shape:
            parameter.register_hook(functools.partial(_in_strides, parameter.stride()))


def _in_strides(strides: tuple[int, ...], gradient: torch.Tensor) -> torch.Tensor:
    """`gradient` with `strides` if they differ along sides of length 1 only, else itself."""
    pairs = zip(gradient.shape, gradient.stride(), strides, strict=True)
    if all(own == wanted for side, own, wanted in pairs if side > 1):
        return gradient.as_strided(gradient.shape, strides)
    return gradient


def broadcast_contents(module: torch.nn.Module) -> None:
    """Give every rank rank 0's weights and buffers."""
    if dist.is_initialized():
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.detach(), src=0)


def broadcast_buffers(module: torch.nn.Module) -> None:
    """Give every rank rank 0's buffers (batch-norm statistics drift apart between forwards)."""
    if dist.is_initialized():
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)
