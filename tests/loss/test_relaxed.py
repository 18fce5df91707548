# SPDX-License-Identifier: Apache-2.0
"""Boundary label relaxation: targets, the union of neighbours, and its end."""

from __future__ import annotations

import pytest
import torch

from loss.relaxed import RelaxedCrossEntropy, marked_target, relaxed_target
from tests.loss.cases import IGNORE, gradient, logits_and_labels

HALVES = torch.tensor([[[0, 0, 1, 1]] * 4])  # boundary between columns 1 and 2


def test_target_marks_the_classes_of_the_neighbourhood_and_outside_as_ignored():
    target = relaxed_target(HALVES, 2, IGNORE)
    assert target.dtype == torch.uint8
    assert target[0, 0, 1].tolist() == [1, 1, 1, 0]
    assert target[0, 1, 1].tolist() == [0, 1, 1, 1]
    inner = target[0, 2, 1:3, 1:3]
    assert not inner.any()
    assert target[0, 2].sum() == 16 - 4


def test_strict_classes_keep_their_single_class():
    target = relaxed_target(HALVES, 2, IGNORE, strict=(0,))
    assert target[0, :, 1, 1].tolist() == [1, 0, 0]
    assert target[0, :, 1, 2].tolist() == [1, 1, 0]


def test_ignored_pixels_beside_a_class_may_take_it():
    labels = torch.full((1, 5, 5), IGNORE)
    labels[0, 0, 0] = 1
    target = relaxed_target(labels, 2, IGNORE)
    assert target[0, 1].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_boundary_pixel_is_right_with_any_class_of_the_neighbourhood():
    even = torch.zeros(1, 3, 4, 4)
    swapped = even.clone()
    swapped[:, 1, :, 1], swapped[:, 0, :, 2] = 9.0, 9.0  # each column takes the other's class
    third = even.clone()
    third[:, 2, :, 1:3] = 9.0
    criterion = RelaxedCrossEntropy()
    assert criterion(swapped, HALVES) < criterion(even, HALVES) < criterion(third, HALVES)


def test_batch_is_the_sum_of_its_images_unless_the_published_weights_are_asked_for():
    logits, labels = logits_and_labels((3, 5, 24, 32))
    own = RelaxedCrossEntropy()
    each = sum(own(logits[i : i + 1], labels[i : i + 1]) for i in range(3))
    torch.testing.assert_close(own(logits, labels), each)
    published = RelaxedCrossEntropy(batch_border_weights=True)
    assert published(logits, labels) > 1.5 * each
    torch.testing.assert_close(published(logits[:1], labels[:1]), own(logits[:1], labels[:1]))


def published_off(logits, labels):
    """The published loss of a batch once the relaxation has ended, pixel by pixel."""
    num_classes, (height, width) = logits.shape[1], labels.shape[1:]
    probs = logits.double().softmax(1)
    marks = torch.zeros(len(labels), height, width)  # 2 at a boundary, 1 elsewhere
    for i, y, x in torch.cartesian_prod(*map(torch.arange, labels.shape)).tolist():
        beside = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
        near = [labels[i, v, u] for v, u in beside if 0 <= v < height and 0 <= u < width]
        marks[i, y, x] = 2 if any(label != labels[i, y, x] for label in near) else 1
    valid = labels < num_classes
    divided = torch.where(valid, marks, 1.0)  # as the number of marks of an ignored pixel is 1
    total = 0.0
    for i, label in enumerate(labels):
        counts = [float(marks[i][label == k].sum()) for k in range(num_classes)]
        weights = [1 + (c > 0) * (1 - c / float(marks[i].sum())) for c in counts]
        own = torch.zeros(height, width, dtype=torch.double)
        for k in range(num_classes):
            own[label == k] = -weights[k] * probs[i, k][label == k].log()
        total += float((own * divided.sum(0)).sum() / (valid[i].sum() + 1))
    return total


@pytest.mark.parametrize("batch", [1, 3])
def test_published_weights_after_the_end_count_an_ignored_pixel_of_another_image_once(batch):
    logits, labels = logits_and_labels((batch, 4, 9, 11), ignored=0.3)
    criterion = RelaxedCrossEntropy(batch_border_weights=True)
    criterion.relaxing = False
    want = published_off(logits.detach(), labels)
    assert criterion(logits, labels).item() == pytest.approx(want, rel=1e-5)


def test_batch_without_a_label_gives_zero_and_no_gradient():
    logits, labels = logits_and_labels((2, 5, 24, 32))
    loss = RelaxedCrossEntropy()(logits, torch.full_like(labels, IGNORE))
    assert loss.item() == 0
    assert not gradient(loss, logits).any()


def test_relaxation_ends_after_its_epoch():
    criterion = RelaxedCrossEntropy(rlx_off_epoch=3)
    for epoch, relaxing in ((0, True), (2, True), (3, True), (4, False), (9, False), (1, True)):
        criterion.set_epoch(epoch)
        assert criterion.relaxing is relaxing
    never = RelaxedCrossEntropy()
    never.set_epoch(1000)
    assert never.relaxing


def test_after_the_end_both_sides_of_a_boundary_count_double():
    target = marked_target(HALVES, 2, IGNORE)
    assert target[0, 0, 0].tolist() == [1, 2, 0, 0]
    assert target[0, 1, 0].tolist() == [0, 0, 2, 1]
    criterion = RelaxedCrossEntropy(bound=0.0, rlx_off_epoch=0)
    criterion.set_epoch(1)
    loss = criterion(torch.zeros(1, 2, 4, 4), HALVES)
    assert loss.item() == pytest.approx((8 * 1 + 8 * 2) * 0.693147 / (16 + 1), rel=1e-5)


@pytest.mark.parametrize("relaxing", [True, False])
def test_gradient_passes_gradcheck(relaxing):
    logits, labels = logits_and_labels((2, 3, 7, 8))
    criterion = RelaxedCrossEntropy()
    criterion.relaxing = relaxing
    exact = logits.detach().requires_grad_()
    loss = criterion(exact, labels)
    step = torch.randn(exact.shape, generator=torch.Generator().manual_seed(1))
    slope = (criterion(exact + 1e-2 * step, labels) - criterion(exact - 1e-2 * step, labels)) / 2e-2
    assert (gradient(loss, exact) * step).sum().item() == pytest.approx(slope.item(), rel=1e-3)
