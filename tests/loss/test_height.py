# SPDX-License-Identifier: Apache-2.0
"""Classes at heights, the auxiliary head at its own size, and the end of relaxation by steps."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from assembly.objective import CITYSCAPES_WEIGHTS
from config import UserError
from loss.cross_entropy import CrossEntropy
from loss.height import row_loss, row_presence, supervised_rows
from loss.objective import AuxRules, LossWeights, Objective, Term
from loss.relaxed import RelaxedCrossEntropy
from network.outputs import AUX, PRED, ROW_LOGITS
from tests.loss.cases import IGNORE, logits_and_labels

CLASSES, ROWS = 5, 4


def test_presence_is_that_of_a_loop_over_pixels() -> None:
    _, labels = logits_and_labels((2, CLASSES, 18, 7), 3)
    found = row_presence(labels, CLASSES, ROWS, IGNORE)
    expected = torch.zeros(2, CLASSES, ROWS, dtype=torch.bool)
    for image, row, column in torch.cartesian_prod(
        torch.arange(2), torch.arange(18), torch.arange(7)
    ):
        label = int(labels[image, row, column])
        if label != IGNORE:
            expected[image, label, min(int(row) // 4, ROWS - 1)] = True
    assert torch.equal(found, expected)


def test_fewer_rows_than_parts_leave_the_last_parts_empty() -> None:
    found = row_presence(torch.zeros(1, 2, 3, dtype=torch.long), 2, ROWS, IGNORE)
    assert found[0, 0].tolist() == [True, True, False, False]


def test_loss_is_low_for_logits_that_know_the_rows() -> None:
    _, labels = logits_and_labels((2, CLASSES, 24, 24), 1)
    right = 20 * (row_presence(labels, CLASSES, ROWS, IGNORE).float() - 0.5)
    assert row_loss(right, labels, IGNORE) < 1e-3 < row_loss(-right, labels, IGNORE)


ROWS_TERM = Term(name="rows", loss=supervised_rows, weight=0.5)


def make(**options: object) -> Objective:
    return Objective(CrossEntropy(), num_classes=CLASSES, ignore_label=IGNORE, **options)


def test_small_aux_is_compared_at_its_own_size_with_the_nearest_labels() -> None:
    pred, labels = logits_and_labels((2, CLASSES, 24, 32), 0)
    aux, _ = logits_and_labels((2, CLASSES, 3, 4), 1)
    weights = torch.arange(1.0, 1 + CLASSES).tolist()
    objective = make(aux=AuxRules(small=CrossEntropy(class_weights=weights)))
    terms = objective({PRED: pred, AUX: aux}, labels)
    small = F.interpolate(labels[:, None].float(), (3, 4), mode="nearest")[:, 0].long()
    want = F.cross_entropy(aux, small, torch.tensor(weights), ignore_index=IGNORE)
    assert torch.allclose(terms.terms[AUX], want)
    assert torch.allclose(terms.total, terms.terms["main"] + 0.4 * want)


def test_attention_loss_adds_the_rows_and_needs_the_fifth_block() -> None:
    pred, labels = logits_and_labels((2, CLASSES, 16, 16), 0)
    rows = torch.randn(2, CLASSES, ROWS, generator=torch.Generator().manual_seed(0))
    terms = make(weights=LossWeights(further=(ROWS_TERM,)))({PRED: pred, ROW_LOGITS: rows}, labels)
    want = row_loss(rows, labels, IGNORE)
    assert torch.allclose(terms.total, terms.terms["main"] + 0.5 * want)
    with pytest.raises(UserError, match="--attention_loss .* --hanet 1,1,1,1,1"):
        make(weights=LossWeights(further=(ROWS_TERM,)))({PRED: pred}, labels)


def test_relaxation_ends_after_the_given_iteration() -> None:
    criterion = RelaxedCrossEntropy(rlx_off_iter=10)
    objective = Objective(criterion, num_classes=CLASSES, ignore_label=IGNORE)
    states = []
    for iteration in (0, 10, 11):
        objective.set_iteration(iteration)
        states.append(criterion.relaxing)
    assert states == [True, True, False]
    never = RelaxedCrossEntropy()
    never.set_iteration(10**6)
    assert never.relaxing


def test_there_is_a_weight_for_every_class_of_cityscapes() -> None:
    assert len(CITYSCAPES_WEIGHTS) == 19
    assert min(CITYSCAPES_WEIGHTS) > 0.8
