# SPDX-License-Identifier: Apache-2.0
"""Plain and batch-weighted cross entropy."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from loss.cross_entropy import CrossEntropy, HardPixels, ImageWeightedCrossEntropy
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


def published_loss(logits, labels, ignore, bound):
    """Loops over images and classes; the last bin of the histogram is closed at K."""
    num_classes = logits.shape[1]
    counts = [int((labels == k).sum()) for k in range(num_classes)]
    counts[-1] += int((labels == num_classes).sum())
    weights = [1 + (c > 0) * bound * (1 - c / sum(counts)) for c in counts]
    total = 0.0
    for scores, label in zip(logits.log_softmax(1), labels, strict=True):
        above, below = 0.0, 0.0
        for k in range(num_classes):
            if k != ignore:
                above -= weights[k] * float(scores[k][label == k].double().sum())
                below += weights[k] * int((label == k).sum())
        total += above / below if below else 0.0
    return weights, total


@pytest.mark.parametrize("bound", [1.0, 2.5])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_official_histogram_counts_an_ignore_label_of_k_as_the_last_class(batch, bound):
    logits, labels = logits_and_labels((batch, 5, 24, 32))
    labels = labels.masked_fill(labels == IGNORE, 5)
    weights, want = published_loss(logits.detach(), labels, 5, bound)
    official = ImageWeightedCrossEntropy(5, bound, official_histogram=True)
    assert official.class_weights(labels, 5).tolist() == pytest.approx(weights, rel=1e-6)
    assert official(logits, labels).item() == pytest.approx(want, rel=1e-5)
    plain = ImageWeightedCrossEntropy(5, bound)(logits, labels)
    assert plain.item() != pytest.approx(want, rel=1e-5)
    # of 255 nothing is counted: there the two are one
    others = labels.masked_fill(labels == 5, IGNORE)
    both = [ImageWeightedCrossEntropy(255, bound, official_histogram=o) for o in (False, True)]
    assert both[0](logits, others).item() == both[1](logits, others).item() == plain.item()


def test_unlabelled_image_adds_nothing_to_its_batch():
    logits, labels = logits_and_labels((2, 5, 24, 32))
    labels[1] = IGNORE
    both = ImageWeightedCrossEntropy()(logits, labels)
    first = ImageWeightedCrossEntropy()(logits[:1], labels[:1])
    assert both.item() == pytest.approx(first.item(), rel=1e-6)


def test_the_mean_over_all_pixels_counts_ignored_ones_as_zero():
    logits, labels = logits_and_labels((2, 5, 24, 32))
    pixels = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    assert (labels == IGNORE).any()
    got = CrossEntropy(average="all")(logits, labels)
    assert got.item() == pytest.approx(pixels.mean().item(), rel=1e-6)


@pytest.mark.parametrize("average", ["valid", "all"])
def test_class_weights_enter_the_divisor_of_the_labelled_mean_alone(average):
    logits, labels = logits_and_labels((2, 5, 24, 32))
    weights = torch.tensor([0.5, 1.0, 2.0, 0.0, 3.0])
    got = CrossEntropy(average=average, class_weights=weights.tolist())(logits, labels)
    pixels = F.cross_entropy(logits, labels, weights, ignore_index=IGNORE, reduction="none")
    divisor = labels.numel() if average == "all" else weights[labels[labels != IGNORE]].sum()
    assert got.item() == pytest.approx((pixels.sum() / divisor).item(), rel=1e-6)


def own_probability(logits, labels):
    picked = logits.softmax(1).gather(1, labels.clamp_max(logits.shape[1] - 1)[:, None])[:, 0]
    return torch.where(labels == IGNORE, 2.0, picked)


def test_pixels_below_the_threshold_are_kept():
    logits, labels = logits_and_labels((2, 5, 24, 32))
    kept = HardPixels(threshold=0.3, min_kept=1)
    target = labels.masked_fill(labels == IGNORE, -100)
    assert torch.equal(kept.kept(logits, target), own_probability(logits, labels) < 0.3)


@pytest.mark.parametrize("average", ["valid", "all"])
def test_at_least_so_many_pixels_an_image_are_kept_over_the_whole_batch(average):
    logits, labels = logits_and_labels((2, 5, 24, 32))
    ohem = HardPixels(threshold=0.0, min_kept=50)
    hardest = own_probability(logits, labels).flatten().sort().indices[:100]
    pixels = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none").flatten()
    divisor = 100 if average == "valid" else labels.numel()
    got = CrossEntropy(average=average, ohem=ohem)(logits, labels)
    assert got.item() == pytest.approx((pixels[hardest].sum() / divisor).item(), rel=1e-5)


def test_few_labelled_pixels_are_all_kept():
    logits, labels = logits_and_labels((2, 5, 24, 32))
    ohem = HardPixels(threshold=0.0, min_kept=100_000)
    want = CrossEntropy()(logits, labels)
    assert CrossEntropy(ohem=ohem)(logits, labels).item() == want.item()
    empty = CrossEntropy(ohem=ohem)(logits, torch.full_like(labels, IGNORE))
    assert empty.item() == 0
