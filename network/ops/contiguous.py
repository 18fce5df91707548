# SPDX-License-Identifier: Apache-2.0
"""Gradients laid out in memory the way batch norm expects them."""

from __future__ import annotations

from torch import Tensor


def contiguous_gradient(x: Tensor) -> Tensor:
    """`x` itself, whose gradient reaches the layer before it contiguous.

    Torch's batch norm on the CPU (2.15 at least) mixes up the values of a gradient that comes in
    another layout than its input when the batch is a single image, as happens behind a
    map that was turned into a sequence.
    """
    if x.requires_grad:
        x.register_hook(lambda gradient: gradient.contiguous())
    return x
