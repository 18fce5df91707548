# SPDX-License-Identifier: Apache-2.0
"""Cross entropy of classes and of mixed targets, against timm's."""

from __future__ import annotations

import torch
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

from loss import soft_target

LOGITS = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
LABELS = torch.tensor([0, 1, 2, 3, 4, 4])


def gradient(value: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(value, LOGITS)[0]


def test_smoothed_labels_as_timm() -> None:
    own = soft_target.SoftTargetCrossEntropy(0.1)(LOGITS, LABELS)
    reference = LabelSmoothingCrossEntropy(0.1)(LOGITS, LABELS)
    torch.testing.assert_close(own, reference)
    torch.testing.assert_close(gradient(own), gradient(reference))


def test_mixed_targets_as_timm_and_not_smoothed_again() -> None:
    targets = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)).softmax(1)
    own = soft_target.SoftTargetCrossEntropy(0.1)(LOGITS, targets)
    reference = SoftTargetCrossEntropy()(LOGITS, targets)
    torch.testing.assert_close(own, reference)
    torch.testing.assert_close(gradient(own), gradient(reference))
