# SPDX-License-Identifier: Apache-2.0
"""Plain and batch-weighted cross entropy."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from loss.cross_entropy import CrossEntropy, ImageWeightedCrossEntropy
from tests.loss.cases import IGNORE, gradient, logits_and_labels


def test_plain_loss_is_the_mean_over_labelled_pixels():
    logits, labels = logits_and_labels((2, 5, 24, 32))
    want = F.cross_entropy(logits, labels, ignore_index=IGNORE)
    assert CrossEntropy()(logits, labels).item() == pytest.approx(want.item(), rel=1e-6)


@pytest.mark.parametrize("criterion", [CrossEntropy(), ImageWeightedCrossEntropy()])
def test_batch_without_a_label_gives_zero_and_no_gradient(criterion):
    logits, labels = logits_and_labels((2, 5, 24, 32))
    loss = criterion(logits, torch.full_like(labels, IGNORE))
    assert loss.item() == 0
    assert not gradient(loss, logits).any()


@pytest.mark.parametrize("kind", [CrossEntropy, ImageWeightedCrossEntropy])
def test_ignore_label_may_equal_the_class_count_or_lie_within_the_classes(kind):
    logits, labels = logits_and_labels((2, 5, 24, 32))
    want = kind(IGNORE)(logits, labels)
    assert kind(5)(logits, labels.masked_fill(labels == IGNORE, 5)).item() == want.item()
    third = kind(IGNORE)(logits, labels.masked_fill(labels == 3, IGNORE))
    assert kind(3)(logits, labels).item() == third.item()


def test_bfloat16_logits_are_summed_in_float32():
    logits, labels = logits_and_labels((2, 5, 24, 32))
    half = logits.detach().bfloat16()
    assert CrossEntropy()(half, labels).item() == CrossEntropy()(half.float(), labels).item()


def test_class_weights_come_from_the_whole_batch_and_images_add_up():
    labels = torch.tensor([[[0, 0, 0, 1]], [[1, 1, 1, 1]]])
    logits = torch.randn((2, 3, 1, 4), generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([1 + 2 * (1 - 3 / 8), 1 + 2 * (1 - 5 / 8), 1.0])
    criterion = ImageWeightedCrossEntropy(bound=2.0)
    torch.testing.assert_close(criterion.class_weights(labels, 3), weights)
    want = sum(
        F.cross_entropy(z[None], y[None], weights) for z, y in zip(logits, labels, strict=True)
    )
    torch.testing.assert_close(criterion(logits, labels), want)


def test_unlabelled_image_adds_nothing_to_its_batch():
    logits, labels = logits_and_labels((2, 5, 24, 32))
    labels[1] = IGNORE
    both = ImageWeightedCrossEntropy()(logits, labels)
    first = ImageWeightedCrossEntropy()(logits[:1], labels[:1])
    assert both.item() == pytest.approx(first.item(), rel=1e-6)
