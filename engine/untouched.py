# SPDX-License-Identifier: Apache-2.0
"""Steps and evaluations that leave no trace in the state of a training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from engine.state import TrainState
from runtime import seeds


@contextlib.contextmanager
def untouched(state: TrainState) -> Iterator[int]:
    """Whatever happens inside, `state` and the random states of this process are as before.

    Weights, statistics of batch norm, their average, moments of the optimiser, rates, the scale of
    the loss and the progress are put back bit for bit, into the tensors that hold them. Gradients
    are dropped. Gives the bytes of the copies, which lie in the memory of the host.
    """
    every = _tensors(state)
    copies = [tensor.detach().to("cpu", copy=True) for tensor in every]
    moments = {key: dict(values) for key, values in state.optimizer.state.items()}
    groups = [dict(group) for group in state.optimizer.param_groups]
    scaler, progress = state.scaler.state_dict(), dict(vars(state.progress))
    modes = [(part, part.training) for module in _modules(state) for part in module.modules()]
    random, turn = seeds.random_state(), state.turns.position()
    try:
        yield sum(copy.nbytes for copy in copies)
    finally:
        with torch.no_grad():
            for tensor, copy in zip(every, copies, strict=True):
                tensor.copy_(copy)
        state.optimizer.zero_grad(set_to_none=True)
        state.optimizer.state.clear()
        state.optimizer.state.update(moments)
        for group, values in zip(state.optimizer.param_groups, groups, strict=True):
            group.clear()
            group.update(values)
        state.scaler.load_state_dict(scaler)
        vars(state.progress).update(progress)
        for part, mode in modes:
            part.training = mode
        seeds.set_random_state(random)
        state.turns.go_back(turn)


def _modules(state: TrainState) -> list[nn.Module]:
    return [state.net] if state.ema is None else [state.net, state.ema]


def _tensors(state: TrainState) -> list[Tensor]:
    """Everything that a step changes in place."""
    found = [
        tensor for module in _modules(state) for tensor in (*module.parameters(), *module.buffers())
    ]
    values: list[Any] = [each for own in state.optimizer.state.values() for each in own.values()]
    return [*found, *(each for each in values if isinstance(each, Tensor))]
