# SPDX-License-Identifier: Apache-2.0
"""Gradient checkpointing that leaves batch-norm statistics alone in the second run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


@contextlib.contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Inside, training batch norms normalise by the batch without counting it.

    Without this the recomputation would move the running mean and variance a second time.
    """
    norms = [
        norm
        for norm in module.modules()
        if isinstance(norm, _BatchNorm) and norm.training and norm.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def run_stage(module: nn.Module, inputs: Any, recompute: bool) -> Any:
    """`module(inputs)`; with `recompute` its inner results are rebuilt in the backward pass."""
    if not (recompute and torch.is_grad_enabled()):
        return module(inputs)
    return checkpoint(
        module,
        inputs,
        use_reentrant=False,
        context_fn=lambda: (contextlib.nullcontext(), frozen_statistics(module)),
    )
