# SPDX-License-Identifier: Apache-2.0
"""Class weights from how often the classes of a training set occur."""

from __future__ import annotations

import math
from collections.abc import Sequence

BOUND = 1.02  # of the paper: no class weighs more than 1 / ln(1.02) = 50.5 before the scaling


def weights_of(counts: Sequence[int]) -> tuple[float, ...]:
    """One weight per class from its number of labelled pixels: s / ln(1.02 + share of the pixels).

    The scale s makes the mean weight of the labelled pixels 1, so that neither the loss nor the
    learning rate that suits it changes its size. A class without any pixel has the largest weight,
    which nothing reads. ValueError if no pixel is labelled.

    Source: Paszke et al., "ENet: A Deep Neural Network Architecture for Real-Time Semantic
    Segmentation", arXiv 1606.02147, section 5.2; the scale is ours. Unlike the inverse frequency
    and its median (Eigen and Fergus, arXiv 1411.4734), weights stay within a factor of 35, however
    rare a class is.
    """
    total = sum(counts)
    if not total:
        raise ValueError("no pixel is labelled: there is nothing to weight classes by")
    shares = [count / total for count in counts]
    bare = [1 / math.log(BOUND + share) for share in shares]
    mean = sum(share * weight for share, weight in zip(shares, bare, strict=True))
    return tuple(weight / mean for weight in bare)
