# SPDX-License-Identifier: Apache-2.0
"""Settings to losses: which criterion, with which options, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from assembly.objective import build_objective, build_val_loss
from config import UserError
from loss.cross_entropy import CrossEntropy, ImageWeightedCrossEntropy
from loss.relaxed import RelaxedCrossEntropy
from loss.rmi import RMILoss
from settings import Settings, read_settings
from settings.catalogue import with_values
from tests.loss.cases import IGNORE, logits_and_labels

SPEC = SimpleNamespace(num_classes=5, ignore_label=IGNORE)


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
def test_settings_choose_the_criterion_in_the_published_order(flags, kind):
    objective = build_objective(with_values(Settings(), flags), SPEC)
    assert type(objective.criterion) is kind
    assert type(build_val_loss(SPEC)) is CrossEntropy


def test_settings_reach_the_objective_and_the_criterion():
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


def test_mmseg_settings_reach_the_cross_entropy() -> None:
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
