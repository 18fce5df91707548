# SPDX-License-Identifier: Apache-2.0
"""Networks of other libraries with lively weights, and how far two answers are apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLOSE = 1e-4  # of the largest value


def lively(net: nn.Module, seed: int = 0) -> nn.Module:
    """Weights as after training: no bias and no statistic where it starts."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, item in net.named_parameters():
            item.add_(torch.randn_like(item) * (0.05 if item.ndim < 2 else 0.02))
            if name.endswith("norm.weight"):
                item.mul_(0.7)
        for name, item in net.named_buffers():
            if name.endswith("running_var"):
                item.uniform_(0.5, 1.5)
            elif name.endswith("running_mean"):
                item.normal_(0, 0.1)
    return net.eval()


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference as a share of the largest value; shapes must agree."""
    assert one.shape == other.shape
    largest = float(one.abs().max())
    assert largest > 0
    return float((one - other).abs().max()) / largest
