# SPDX-License-Identifier: Apache-2.0
"""Cross entropy: plain, of hard pixels only, or with class weights taken from the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from loss.counting import count

Average = Literal["valid", "all"]
IGNORED = -100  # torch's own spelling of "no label" inside this file


def mask_labels(labels: Tensor, num_classes: int, ignore_label: int) -> Tensor:
    """int64 labels (B, H, W) in which everything but 0..K-1 is `IGNORED`.

    A label is ignored if it is `ignore_label` (255, or K in sets that number it so) or lies
    outside 0..K-1: label ids that the set does not know are refused by the reader, not here.
    """
    outside = (labels < 0) | (labels >= num_classes) | (labels == ignore_label)
    return labels.long().masked_fill(outside, IGNORED)


@dataclass(frozen=True, kw_only=True)
class HardPixels:
    """Online hard example mining: the pixels whose own class has a probability below a limit.

    The limit is `threshold`, or, if that is higher, the probability that leaves `min_kept` pixels
    per image below it, counted over the whole batch. A batch with fewer labelled pixels keeps all
    of them.

    Source: Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example
    Mining", CVPR 2016; pixel form as in mmsegmentation 0.x.
    """

    threshold: float
    min_kept: int

    @torch.no_grad()
    def kept(self, logits: Tensor, target: Tensor) -> Tensor:
        """bool (B, H, W) for logits (B, K, H, W) and labels with `IGNORED` where there is none."""
        labelled = target != IGNORED
        own = logits.log_softmax(1).gather(1, target.clamp_min(0)[:, None])[:, 0].exp()
        least = self.min_kept * len(target)
        if least >= own.numel():
            return labelled
        # The pixels below the value at this place of the sorted list are `least` in number. Others
        # than labelled ones come last in it: if they are reached, no limit leaves anything out.
        values = own.masked_fill(~labelled, torch.inf).flatten()
        lowest = values.kthvalue(least + 1).values
        return labelled & ~(own >= lowest.clamp_min(self.threshold))


class CrossEntropy(nn.Module):
    """Mean negative log-likelihood of the pixels of the batch.

    average: "valid" takes the mean over the labelled pixels (over the sum of their weights with
    `class_weights`); "all" divides by the number of all pixels, so that ignored ones count as 0
    and weights do not enter the divisor. class_weights: K factors, one per class. ohem: which
    pixels count at all.

    Source: "all" is the mean that mmsegmentation 0.x recipes were trained with; it makes the
    loss of a half ignored crop half as large.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        ignore_label: int = 255,
        *,
        average: Average = "valid",
        class_weights: Sequence[float] | None = None,
        ohem: HardPixels | None = None,
    ) -> None:
        super().__init__()
        self.ignore_label = ignore_label
        self.average = average
        self.ohem = ohem
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor, do_rmi: bool = True) -> Tensor:
        """Scalar loss of logits (B, K, H, W) against labels (B, H, W); `do_rmi` has no effect.

        A batch without any labelled pixel gives 0 with a gradient of 0.
        """
        target = mask_labels(labels, logits.shape[1], self.ignore_label)
        logits = logits.float()
        if self.ohem is not None:
            target = target.masked_fill(~self.ohem.kept(logits, target), IGNORED)
        if self.class_weights is not None:  # moved once: each time the host would wait
            self.class_weights = self.class_weights.to(logits.device)
        weights = self.class_weights
        total = F.cross_entropy(logits, target, weights, ignore_index=IGNORED, reduction="sum")
        if self.average == "all":
            return total / max(target.numel(), 1)
        counted = target != IGNORED
        if weights is None:
            return total / counted.sum().clamp_min(1)
        norm = torch.where(counted, weights[target.clamp_min(0)], 0.0).sum()
        return total / torch.where(norm > 0, norm, 1.0)


class ImageWeightedCrossEntropy(nn.Module):
    """Cross entropy with rare classes of the batch weighted up, one term per image.

    Weight of class k: 1 + bound * (1 - share of k among the labelled pixels of the whole batch)
    where k occurs, else 1. Each image contributes the weighted mean of its pixels. `per_image`: the
    share is taken among the pixels of the image instead. The images are summed, as published, so
    that the loss grows with their number; `mean_of_images` takes their mean. Pixels of label K are
    ignored in every case; with `official_histogram` the shares count them as class K-1.

    Source: NVIDIA semantic-segmentation, `--img_wt_loss`; weights over the batch with or
    without `--batch_weighting`, as recorded. Per image without that flag in HANet's program.
    """

    # differs: the last bin of the published histogram is closed, so that an ignore label equal to
    # K (Mapillary's 65, CamVid's 11) is counted as class K-1. By default it is not counted here.
    # Sets that ignore 255 are not affected.

    def __init__(
        self,
        ignore_label: int = 255,
        bound: float = 1.0,
        per_image: bool = False,
        mean_of_images: bool = False,
        official_histogram: bool = False,
    ) -> None:
        super().__init__()
        self.ignore_label = ignore_label
        self.bound, self.per_image, self.mean_of_images = bound, per_image, mean_of_images
        self.official_histogram = official_histogram

    def class_weights(self, labels: Tensor, num_classes: int) -> Tensor:
        """Weights (K,) float32 from labels of any shape, as they are or from `mask_labels`."""
        target = mask_labels(labels, num_classes, self.ignore_label)
        if self.official_histogram:
            target = torch.where(labels == num_classes, num_classes - 1, target)
        kept = torch.where(target == IGNORED, num_classes, target)
        counts = count(kept, num_classes + 1)[:num_classes].double()
        share = counts / counts.sum().clamp_min(1)
        return (1 + (counts > 0) * self.bound * (1 - share)).float()

    def forward(self, logits: Tensor, labels: Tensor, do_rmi: bool = True) -> Tensor:
        """Scalar loss of logits (B, K, H, W) against labels (B, H, W); `do_rmi` has no effect.

        An image without any labelled pixel adds 0.
        """
        if self.per_image and len(logits) > 1:
            images = zip(logits.split(1), labels.split(1), strict=True)
            return self._together(torch.stack([self(*image) for image in images]))
        num_classes = logits.shape[1]
        target = mask_labels(labels, num_classes, self.ignore_label)
        weights = self.class_weights(labels, num_classes)
        loss = F.cross_entropy(
            logits.float(), target, weights, ignore_index=IGNORED, reduction="none"
        )
        own = torch.where(target == IGNORED, 0.0, weights[target.clamp_min(0)])
        norm = own.sum((1, 2))
        return self._together(loss.sum((1, 2)) / torch.where(norm > 0, norm, 1.0))

    def _together(self, terms: Tensor) -> Tensor:
        """The loss of a batch from those (B,) of its images."""
        return terms.mean() if self.mean_of_images else terms.sum()
