# SPDX-License-Identifier: Apache-2.0
"""Two tasks, one command line: own defaults, and no flag of the other task."""

from __future__ import annotations

import pytest

import settings as flags
from config import UserError
from flags.classification import DEFAULTS, SHARED, flags_by_group, segmentation_flags
from settings import Settings, read_settings

CLASSIFY = ["--task", "classify", "--arch", "hrvit.b1_224"]


def resolved(*argv: str, eval_default: str | None = None) -> Settings:
    told = read_settings(argv, eval_default=eval_default)
    return told


def test_classification_has_the_defaults_of_its_recipe() -> None:
    args = resolved(*CLASSIFY)
    assert {name: getattr(args, name) for name in DEFAULTS} == DEFAULTS
    assert (
        told.classification.mixup,
        told.classification.cutmix,
        told.classification.smoothing,
        told.classification.reprob,
    ) == (0.8, 1.0, 0.1, 0.25)
    assert (told.classification.aa, told.classification.img_size, told.classification.crop_pct) == (
        "rand-m9-mstd0.5-inc1",
        224,
        0.9,
    )


def test_typed_values_win_over_the_defaults_of_the_task() -> None:
    args = resolved(*CLASSIFY, "--lr", "0.1", "--optimizer", "sgd", "--bs_trn", "8")
    assert (told.optimiser.lr, told.optimiser.optimizer, told.data.bs_trn) == (0.1, "sgd", 8)
    assert resolved(*CLASSIFY, "--test_mode").max_epoch == 2


def test_segmentation_keeps_its_defaults() -> None:
    args = resolved()
    assert (told.classification.task, told.data.dataset, told.optimiser.optimizer, told.schedule.max_epoch) == (
        "segment", "cityscapes", "sgd", 180,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([*CLASSIFY, "--crop_size", "224"], "--crop_size belongs to segmentation"),
        ([*CLASSIFY, "--rmi_loss"], "--rmi_loss belongs to segmentation"),
        ([*CLASSIFY, "--class_uniform_pct", "0"], "--class_uniform_pct belongs to segmentation"),
        ([*CLASSIFY, "--eval", "val", "--do_flip"], "--do_flip belongs to segmentation"),
        ([*CLASSIFY, "--dataset", "camvid"], "reads --dataset imagenet, not camvid"),
        ([*CLASSIFY, "--eval", "folder"], "--eval val or trn, not folder"),
        (["--mixup", "0.2"], "--mixup belongs to classification: it needs --task classify"),
        (["--img_size", "224"], "--img_size belongs to classification"),
        (["--dataset", "imagenet"], "--dataset imagenet has no label maps"),
        ([*CLASSIFY, "--bs_trn", "3"], "--bs_trn 3: .* even number"),
        ([*CLASSIFY, "--color_jitter", "0.3"], "--color_jitter has no effect .* --aa none"),
        ([*CLASSIFY, "--scale", "0.5,0.1"], "--scale 0.5,0.1: SMALLEST,LARGEST"),
        ([*CLASSIFY, "--scale", "0.5,2"], "--scale 0.5,2: a share"),
        ([*CLASSIFY, "--reprob", "0", "--remode", "rand"], "--remode has no effect"),
        (
            [*CLASSIFY, "--mixup", "0", "--cutmix", "0", "--mixup_mode", "elem"],
            "--mixup_mode has no effect",
        ),
        ([*CLASSIFY, "--lr_schedule", "poly", "--min_lr", "0"], "--min_lr has no effect"),
        ([*CLASSIFY, "--max_iter", "5"], "--max_iter: --lr_schedule cosine goes by epoch"),
    ],
)
def test_flags_that_can_have_no_effect_are_one_line(argv: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        resolved(*argv)
    assert "\n" not in str(error.value)


def test_an_odd_batch_may_be_evaluated_or_trained_unmixed() -> None:
    assert resolved(*CLASSIFY, "--bs_trn", "3", "--eval", "val").bs_trn == 3
    assert resolved(*CLASSIFY, "--bs_trn", "3", "--mixup", "0", "--cutmix", "0").bs_trn == 3


def test_every_flag_belongs_to_one_task_or_to_both() -> None:
    parser = flags.build_parser()
    groups = flags_by_group(parser)
    assert set().union(*groups.values()) >= SHARED
    foreign = segmentation_flags(parser)
    assert groups["loss"] | groups["HANet training"] <= foreign
    assert not foreign & (groups["classification"] | groups["optimisation"] | groups["run"])


def test_a_checkpoint_can_turn_an_evaluation_into_one_of_a_classifier() -> None:
    args = resolved("--snapshot", "FILE", eval_default="val")
    flags.adopt_task(args, "classify")
    assert (told.data.dataset, told.data.bs_val) == ("imagenet", 64)
    args = resolved("--snapshot", "FILE", "--dump_assets", eval_default="val")
    with pytest.raises(UserError, match="--dump_assets belongs to segmentation"):
        flags.adopt_task(args, "classify")


def test_an_evaluation_leaves_the_task_to_its_checkpoint() -> None:
    argv = ("--snapshot", "FILE", "--img_size", "96")
    args = resolved(*argv, eval_default="val")
    flags.adopt_task(args, "classify")
    assert (told.classification.task, told.classification.img_size) == ("classify", 96)
    for task in ("segment", None):  # of a file that says so, and of one that says nothing
        with pytest.raises(UserError, match="--img_size belongs to classification"):
            flags.adopt_task(resolved(*argv, eval_default="val"), task)
    with pytest.raises(UserError, match="--img_size belongs to classification"):
        resolved(*argv)  # a training has its own task
