# SPDX-License-Identifier: Apache-2.0
"""Totals over the outputs of a network."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from loss.cross_entropy import CrossEntropy, ImageWeightedCrossEntropy
from loss.objective import AuxRules, LossWeights, Objective
from loss.relaxed import RelaxedCrossEntropy
from loss.rmi import RMILoss
from network.outputs import AUX, PRED, attn_key, pred_key
from tests.loss.cases import IGNORE, logits_and_labels


def two_scale_outputs():
    """What HRNet_Mscale returns in training, with random logits."""
    maps = [logits_and_labels((1, 5, *size), seed) for seed, size in enumerate([(24, 32)] * 3)]
    low, _ = logits_and_labels((1, 5, 12, 16), 9)
    outputs = {PRED: maps[0][0], AUX: maps[1][0], pred_key(1.0): maps[2][0], pred_key(0.5): low}
    return {**outputs, attn_key(0.5): torch.rand(1, 1, 12, 16)}, maps[0][1]


def make(criterion=None, **options):
    return Objective(criterion or RMILoss(5), num_classes=5, ignore_label=IGNORE, **options)


def test_two_scale_total_is_the_published_sum():
    outputs, labels = two_scale_outputs()
    got = make(weights=LossWeights(supervised_mscale_wt=0.05))(outputs, labels)
    criterion = RMILoss(5)
    up = F.interpolate(outputs[pred_key(0.5)], (24, 32), mode="bilinear", align_corners=False)
    want = (
        criterion(outputs[PRED], labels)
        + 0.4 * criterion(outputs[AUX], labels, do_rmi=False)
        + 0.05 * criterion(up, labels, do_rmi=False)
        + 0.05 * criterion(outputs[pred_key(1.0)], labels, do_rmi=False)
    )
    torch.testing.assert_close(got.total, want)
    assert set(got.terms) == {"main", "bce", "rmi", "aux", "scale_05x", "scale_10x"}
    assert not any(term.requires_grad for term in got.terms.values())


def test_aux_gets_rmi_only_on_request():
    outputs, labels = two_scale_outputs()
    criterion = RMILoss(5)
    for wanted in (False, True):
        terms = make(aux=AuxRules(rmi=wanted))(outputs, labels).terms
        assert terms["aux"] == criterion(outputs[AUX], labels, do_rmi=wanted)


def test_every_supervised_output_receives_gradient_and_the_others_none():
    outputs, labels = two_scale_outputs()
    make(weights=LossWeights(supervised_mscale_wt=0.05))(outputs, labels).total.backward()
    assert all(outputs[k].grad.any() for k in (PRED, AUX, pred_key(0.5), pred_key(1.0)))
    outputs, labels = two_scale_outputs()
    make(weights=LossWeights(ocr_alpha=0.0))(outputs, labels).total.backward()
    assert [k for k, v in outputs.items() if v.grad is not None] == [PRED]


@pytest.mark.parametrize(
    "criterion", [CrossEntropy(), ImageWeightedCrossEntropy(), RelaxedCrossEntropy(), RMILoss(5)]
)
def test_every_criterion_serves_single_and_multi_scale_networks(criterion):
    outputs, labels = two_scale_outputs()
    full = make(criterion, weights=LossWeights(supervised_mscale_wt=0.05))(outputs, labels)
    single = make(criterion)({PRED: outputs[PRED]}, labels)
    assert full.total.isfinite() and single.total.isfinite()
    assert {"main", "aux", "scale_05x", "scale_10x"} <= set(full.terms)
    assert single.terms["main"] == single.total


def test_supervised_weight_without_single_scales_is_an_error():
    outputs, labels = two_scale_outputs()
    with pytest.raises(ValueError, match="--supervised_mscale_loss_wt"):
        make(weights=LossWeights(supervised_mscale_wt=0.05))(
            {PRED: outputs[PRED], AUX: outputs[AUX]}, labels
        )


def test_other_class_count_is_an_error():
    outputs, labels = two_scale_outputs()
    with pytest.raises(ValueError, match="predicts 5 classes, the labels have 7"):
        Objective(RMILoss(7), num_classes=7, ignore_label=IGNORE)(outputs, labels)


def test_counters_report_repairs_of_rmi_only():
    assert make().counters() == {"rmi_jitter": 0}
    assert make(CrossEntropy()).counters() == {}
