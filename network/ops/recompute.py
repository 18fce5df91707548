# SPDX-License-Identifier: Apache-2.0
"""Gradient checkpointing that leaves batch-norm statistics alone in the second run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@contextlib.contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Inside, training batch norms count into copies of their statistics, then lost.

    Without this the recomputation would move the running mean and variance a second time.
    Switching the statistics off instead would save other tensors than the first run did.
    """
    norms = [
        norm
        for norm in module.modules()
        if isinstance(norm, _BatchNorm) and norm.training and norm.track_running_stats
    ]
    kept = [{name: getattr(norm, name) for name in STATISTICS} for norm in norms]
    for norm, values in zip(norms, kept, strict=True):
        for name, value in values.items():
            setattr(norm, name, None if value is None else value.clone())
    try:
        yield
    finally:
        for norm, values in zip(norms, kept, strict=True):
            for name, value in values.items():
                setattr(norm, name, value)


def recomputed(module: nn.Module, *inputs: Any, recompute: bool = True) -> Any:
    """`module(*inputs)`; with `recompute` its inner results are rebuilt in the backward pass."""
    if not (recompute and torch.is_grad_enabled()):
        return module(*inputs)
    if not any(isinstance(part, _BatchNorm) for part in module.modules()):
        return checkpoint(module, *inputs, use_reentrant=False)
    return checkpoint(
        module,
        *inputs,
        use_reentrant=False,
        context_fn=lambda: (contextlib.nullcontext(), frozen_statistics(module)),
    )


@contextlib.contextmanager
def recomputing(parts: Sequence[nn.Module]) -> Iterator[None]:
    """Inside, the inner results of `parts` are rebuilt in the backward pass, whoever calls them."""
    for part in parts:
        forward = part.forward
        part.__dict__["forward"] = partial(run_again, part, forward)
    try:
        yield
    finally:
        for part in parts:
            del part.__dict__["forward"]


def run_again(part: nn.Module, forward: Callable[..., Any], *inputs: Any) -> Any:
    """`forward(*inputs)`, which calls `part`, and once more in the backward pass."""
    if not torch.is_grad_enabled():
        return forward(*inputs)
    return checkpoint(
        forward,
        *inputs,
        use_reentrant=False,
        context_fn=lambda: (contextlib.nullcontext(), frozen_statistics(part)),
    )
