# SPDX-License-Identifier: Apache-2.0
"""Totals over the outputs of a network, and the flags that build them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from assembly.objective import build_objective, build_val_loss
from config import UserError
from loss.cross_entropy import CrossEntropy, ImageWeightedCrossEntropy
from loss.objective import AuxRules, LossWeights, Objective
from loss.relaxed import RelaxedCrossEntropy
from loss.rmi import RMILoss
from network.outputs import AUX, PRED, attn_key, pred_key
from settings import Settings, read_settings
from settings.catalogue import with_values
from tests.loss.cases import IGNORE, logits_and_labels

SPEC = SimpleNamespace(num_classes=5, ignore_label=IGNORE)


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


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ({}, CrossEntropy),
        ({"jointwtborder": True, "strict_bdr_cls": (2, 4)}, RelaxedCrossEntropy),
        ({"img_wt_loss": True, "batch_weighting": True}, ImageWeightedCrossEntropy),
        ({"img_wt_loss": True, "jointwtborder": True}, ImageWeightedCrossEntropy),
        ({"rmi_loss": True, "img_wt_loss": True, "jointwtborder": True}, RMILoss),
    ],
)
def test_flags_choose_the_criterion_in_the_published_order(flags, kind):
    objective = build_objective(with_values(Settings(), flags), SPEC)
    assert type(objective.criterion) is kind
    assert type(build_val_loss(SPEC)) is CrossEntropy


def test_flags_reach_the_objective_and_the_criterion():
    told = with_values(
        Settings(),
        {
            "jointwtborder": True,
            "strict_bdr_cls": (2,),
            "rlx_off_epoch": 2,
            "wt_bound": 3.0,
            "ocr_alpha": 0.7,
            "ocr_aux_loss_rmi": True,
            "supervised_mscale_loss_wt": 0.05,
        },
    )
    objective = build_objective(told, SPEC)
    weights = objective.weights
    assert (weights.ocr_alpha, weights.supervised_mscale_wt) == (0.7, 0.05)
    assert objective.aux.rmi
    assert (objective.criterion.strict, objective.criterion.bound) == ((2,), 3.0)
    objective.set_epoch(2)
    assert objective.criterion.relaxing
    objective.set_epoch(3)
    assert not objective.criterion.relaxing


def test_strict_class_outside_the_set_is_a_user_error():
    told = with_values(Settings(), {"jointwtborder": True, "strict_bdr_cls": (2, 5)})
    with pytest.raises(UserError, match="there is no class 5"):
        build_objective(told, SPEC)


def test_published_border_weights_are_a_configuration_key() -> None:
    spec = SimpleNamespace(num_classes=3, ignore_label=255)
    for entry, expected in ((), False), (("--set", "LOSS.BATCH_BORDER_WEIGHTS=true"), True):
        told = read_settings(["--jointwtborder", *entry])
        criterion = build_objective(told, spec).criterion
        assert criterion.batch_border_weights is expected


@pytest.mark.parametrize("per_image", ["true", "false"])
def test_image_weighted_loss_adds_images_up_unless_their_mean_is_configured(per_image) -> None:
    spec, values = SimpleNamespace(num_classes=5, ignore_label=IGNORE), []
    logits, labels = logits_and_labels((2, 5, 8, 8))
    for mean in ("false", "true"):
        entries = f"LOSS.HANET_WEIGHTS={per_image}", f"LOSS.IMAGE_MEAN={mean}"
        told = read_settings(["--img_wt_loss", "--set", entries[0], "--set", entries[1]])
        values.append(build_objective(told, spec).criterion(logits, labels).item())
    assert values[1] == pytest.approx(values[0] / 2)


def test_mmseg_flags_reach_the_cross_entropy() -> None:
    argv = ["--loss_average", "all", "--ohem_threshold", "0.7", "--ohem_min_kept", "50"]
    argv += ["--aux_weight", "0.3", "--log_accuracy", "--set", "LOSS.CLASS_WEIGHTS=1,2,0.5"]
    told = read_settings(argv)
    spec = SimpleNamespace(num_classes=3, ignore_label=255)
    objective = build_objective(told, spec)
    criterion = objective.criterion
    assert (criterion.average, criterion.class_weights.tolist()) == ("all", [1, 2, 0.5])
    assert (criterion.ohem.threshold, criterion.ohem.min_kept) == (0.7, 50)
    assert objective.weights.ocr_alpha == 0.3
    logits = torch.zeros(1, 3, 2, 2)
    logits[:, 1] = 1.0
    terms = objective({"pred": logits}, torch.tensor([[[1, 0], [255, 1]]])).terms
    assert terms["acc"] == 50
    with pytest.raises(UserError, match="LOSS.CLASS_WEIGHTS holds 3 numbers.*; 4 of at least 0"):
        build_objective(told, SimpleNamespace(num_classes=4, ignore_label=255))


@pytest.mark.parametrize(("ignore", "refused"), [(5, False), (255, True)])
def test_the_official_histogram_is_refused_where_no_label_falls_into_its_last_bin(ignore, refused):
    told = with_values(Settings(), {"LOSS.HISTOGRAM_OFFICIAL": True, "img_wt_loss": True})
    spec = SimpleNamespace(num_classes=5, ignore_label=ignore)
    if refused:
        with pytest.raises(UserError, match="HISTOGRAM_OFFICIAL has no effect here"):
            build_objective(told, spec)
    else:
        assert build_objective(told, spec).criterion.official_histogram
