# SPDX-License-Identifier: Apache-2.0
"""Cross entropy over the labelled pixels, plain or with class weights taken from the batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IGNORED = -100  # torch's own spelling of "no label" inside this file


def mask_labels(labels: Tensor, num_classes: int, ignore_label: int) -> Tensor:
    """int64 labels (B, H, W) in which everything but 0..K-1 is `IGNORED`.

    A label is ignored if it is `ignore_label` (255, or K in sets that number it so) or lies
    outside 0..K-1: label ids that the set does not know are refused by the reader, not here.
    """
    outside = (labels < 0) | (labels >= num_classes) | (labels == ignore_label)
    return labels.long().masked_fill(outside, IGNORED)


class CrossEntropy(nn.Module):
    """Mean negative log-likelihood over the labelled pixels of the batch."""

    def __init__(self, ignore_label: int = 255) -> None:
        super().__init__()
        self.ignore_label = ignore_label

    def forward(self, logits: Tensor, labels: Tensor, do_rmi: bool = True) -> Tensor:
        """Scalar loss of logits (B, K, H, W) against labels (B, H, W); `do_rmi` has no meaning.

        A batch without any labelled pixel gives 0 with a gradient of 0.
        """
        target = mask_labels(labels, logits.shape[1], self.ignore_label)
        total = F.cross_entropy(logits.float(), target, ignore_index=IGNORED, reduction="sum")
        return total / (target != IGNORED).sum().clamp_min(1)


class ImageWeightedCrossEntropy(nn.Module):
    """Cross entropy with rare classes of the batch weighted up, summed over the images.

    Weight of class k: 1 + bound * (1 - share of k among the labelled pixels of the whole
    batch) where k occurs, else 1. Each image gives the weighted mean of its pixels.

    Source: NVIDIA semantic-segmentation, `--img_wt_loss`; weights over the batch with or
    without `--batch_weighting`, as recorded.
    """

    # differs: the published histogram counts an ignore label equal to K (Mapillary's 65) as
    # class K-1; here it is never counted. Sets that ignore 255 are not affected.

    def __init__(self, ignore_label: int = 255, bound: float = 1.0) -> None:
        super().__init__()
        self.ignore_label = ignore_label
        self.bound = bound

    def class_weights(self, target: Tensor, num_classes: int) -> Tensor:
        """Weights (K,) float32 from labels in which `IGNORED` marks what does not count."""
        kept = torch.where(target == IGNORED, num_classes, target).flatten()
        counts = torch.bincount(kept, minlength=num_classes + 1)[:num_classes].double()
        share = counts / counts.sum().clamp_min(1)
        return (1 + (counts > 0) * self.bound * (1 - share)).float()

    def forward(self, logits: Tensor, labels: Tensor, do_rmi: bool = True) -> Tensor:
        """Scalar loss of logits (B, K, H, W) against labels (B, H, W); `do_rmi` has no meaning.

        An image without any labelled pixel adds 0.
        """
        num_classes = logits.shape[1]
        target = mask_labels(labels, num_classes, self.ignore_label)
        weights = self.class_weights(target, num_classes)
        loss = F.cross_entropy(
            logits.float(), target, weights, ignore_index=IGNORED, reduction="none"
        )
        own = torch.where(target == IGNORED, 0.0, weights[target.clamp_min(0)])
        norm = own.sum((1, 2))
        return (loss.sum((1, 2)) / torch.where(norm > 0, norm, 1.0)).sum()
