# SPDX-License-Identifier: Apache-2.0
"""How often a number occurs, without waiting for the device as `torch.bincount` does."""

from __future__ import annotations

import torch
from torch import Tensor


def count(values: Tensor, bins: int) -> Tensor:
    """How often each of 0..bins-1 occurs in `values`, int64 of any shape: (bins,) int64."""
    flat = values.flatten()
    return flat.new_zeros(bins).scatter_add_(0, flat, torch.ones_like(flat))
