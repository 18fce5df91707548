# SPDX-License-Identifier: Apache-2.0
"""Random logits and blocky labels shared by the loss tests."""

from __future__ import annotations

import torch
from torch import Tensor

IGNORE = 255


def logits_and_labels(
    shape: tuple[int, int, int, int], seed: int = 0, ignored: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Logits (B, K, H, W) float32 with gradient that know the labels (B, H, W) a little."""
    batch, classes, height, width = shape
    rng = torch.Generator().manual_seed(seed)
    blocks = torch.randint(classes, (batch, -(-height // 6), -(-width // 6)), generator=rng)
    labels = blocks.repeat_interleave(6, 1).repeat_interleave(6, 2)[:, :height, :width].clone()
    own = torch.nn.functional.one_hot(labels, classes).movedim(-1, 1)
    logits = 2 * torch.randn(shape, generator=rng) + 3 * own
    labels[torch.rand(labels.shape, generator=rng) < ignored] = IGNORE
    return logits.requires_grad_(), labels


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    """Gradient of a scalar to the logits."""
    return torch.autograd.grad(loss, logits)[0]
