# SPDX-License-Identifier: Apache-2.0
"""Class weights from label counts: the formula of ENet, scaled to a mean of 1 over the pixels."""

from __future__ import annotations

import math

import pytest
import torch

from loss.class_weights import weights_of
from loss.cross_entropy import CrossEntropy


def test_weights_are_enets_up_to_a_factor() -> None:
    weights = weights_of([600, 300, 100])
    bare = [1 / math.log(1.02 + share) for share in (0.6, 0.3, 0.1)]
    ratios = [weight / value for weight, value in zip(weights, bare, strict=True)]
    assert ratios == pytest.approx([ratios[0]] * 3)
    assert 0.6 * weights[0] + 0.3 * weights[1] + 0.1 * weights[2] == pytest.approx(1)


def test_rare_classes_weigh_more_but_never_without_bound() -> None:
    weights = weights_of([10**9, 1, 0])
    assert weights[0] == pytest.approx(1)
    assert weights[1] < weights[2] == max(weights)
    ratio = weights[2] / weights[0]
    assert ratio == pytest.approx(math.log(2.02) / math.log(1.02)) and ratio < 36


def test_equal_classes_weigh_the_same_and_change_nothing() -> None:
    weights = weights_of([5, 5, 5, 5])
    assert weights == pytest.approx([1.0] * 4)
    logits, labels = torch.randn(2, 4, 6, 6), torch.randint(0, 4, (2, 6, 6))
    weighted = CrossEntropy(255, class_weights=weights)(logits, labels)
    assert torch.allclose(weighted, CrossEntropy(255)(logits, labels))


def test_nothing_labelled_is_an_error() -> None:
    with pytest.raises(ValueError, match="no pixel is labelled"):
        weights_of([0, 0])
