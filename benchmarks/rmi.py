# SPDX-License-Identifier: Apache-2.0
"""RMI loss forward + backward against the direct formula, 2x19x256x256.

python -m benchmarks.rmi
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measure import print_table, time_in_turn
from loss.rmi import RMILoss

SHAPE = (2, 19, 256, 256)


def windows(pooled: Tensor) -> Tensor:
    """The 9 shifted 3x3 windows of (B, K, h, w) as vectors (B, K, 9, M)."""
    height, width = pooled.shape[2] - 2, pooled.shape[3] - 2
    shifted = [pooled[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return torch.stack(shifted, dim=2).flatten(3)


def direct_rmi_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss as its formula is written: one-hot labels, windows and inverses in float64."""
    num_classes = logits.shape[1]
    valid = labels < num_classes
    mask = valid.unsqueeze(1).to(logits.dtype)
    one_hot = F.one_hot(labels * valid, num_classes).movedim(-1, 1).to(logits.dtype) * mask
    bce = F.binary_cross_entropy_with_logits(logits, one_hot, mask, reduction="sum")
    probs = torch.sigmoid(logits) * mask + 1e-6
    label_rows, prob_rows = (
        windows(F.avg_pool2d(x, 4, stride=4, padding=2)).double() for x in (one_hot, probs)
    )
    label_rows = label_rows - label_rows.mean(3, keepdim=True)
    prob_rows = prob_rows - prob_rows.mean(3, keepdim=True)
    ridge = 5e-4 * torch.eye(9, dtype=torch.float64, device=logits.device)
    cross = label_rows @ prob_rows.mT
    explained = cross @ torch.linalg.inv(prob_rows @ prob_rows.mT + ridge) @ cross.mT
    rest = label_rows @ label_rows.mT - explained
    diagonal = torch.linalg.cholesky(rest + ridge).diagonal(dim1=-2, dim2=-1)
    rmi = (diagonal + 1e-8).log().sum(-1).mean(0).to(logits.dtype) / 9
    total: Tensor = 0.5 * bce / (mask.sum() + 1) + 0.5 * rmi.sum()
    return total


def draw() -> tuple[Tensor, Tensor]:
    """Logits that know the labels a little, and blocky labels with ignored pixels."""
    rng = torch.Generator().manual_seed(0)
    batch, num_classes, height, width = SHAPE
    blocks = torch.randint(num_classes, (batch, 8, 8), generator=rng)
    labels = blocks.repeat_interleave(height // 8, 1).repeat_interleave(width // 8, 2)
    logits = 2 * torch.randn(SHAPE, generator=rng)
    logits += 3 * F.one_hot(labels, num_classes).movedim(-1, 1)
    labels[:, :32, :32] = 255
    return logits, labels


def step(criterion: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> Tensor:
    """Forward and backward; the gradient."""
    leaf = logits.detach().requires_grad_()
    criterion(leaf, labels).backward()
    assert leaf.grad is not None
    return leaf.grad


def main() -> None:
    """Compare, measure, print."""
    torch.set_num_threads(1)
    logits, labels = draw()
    ours = RMILoss(SHAPE[1])
    want = float(direct_rmi_loss(logits.double(), labels))
    value = abs(float(ours(logits, labels)) - want) / abs(want)
    exact = step(direct_rmi_loss, logits.double(), labels)
    largest = (step(ours, logits, labels) - exact).abs().max() / exact.abs().max()
    print(f"relative difference: value {value:.1e}, gradient {float(largest):.1e} (limit 1e-6)")
    sides = {
        "direct formula": lambda: step(direct_rmi_loss, logits, labels),
        "ours": lambda: step(ours, logits, labels),
    }
    seconds = time_in_turn(sides, rounds=15)
    print_table("RMI forward + backward, 2x19x256x256", seconds, limit=0.4)


if __name__ == "__main__":
    main()
