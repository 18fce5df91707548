# SPDX-License-Identifier: Apache-2.0
"""Cross entropy of a classifier, with class numbers or probabilities as targets."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


class SoftTargetCrossEntropy:
    """Mean over the batch of -sum_k target_k * log softmax(logits)_k.

    smoothing: share of the target that is spread over all classes, for targets that are class
    numbers; mixed targets have been smoothed when they were mixed.
    Source: Szegedy et al., "Rethinking the Inception Architecture" (2016), section 7.
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        self.smoothing = smoothing

    def __call__(self, logits: Tensor, labels: Tensor, do_rmi: bool = True) -> Tensor:
        """Logits (B, K) with labels (B,) int64 or (B, K) probabilities to a scalar."""
        del do_rmi
        smoothing = 0.0 if labels.is_floating_point() else self.smoothing
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
