# SPDX-License-Identifier: Apache-2.0
"""Two tasks, one command line: own defaults, and no flag of the other task."""

from __future__ import annotations

import pytest

from config import UserError
from settings import Settings, catalogue, flag_values, read_settings, with_task
from settings.declare import BOTH, CLASSIFY, SEGMENT
from settings.task import recipe_defaults

ARGV = ["--task", "classify", "--arch", "hrvit.b1_224"]
# Flags of groups for segmentation that classification reads too.
SHARED = ("dataset", "num_workers", "bs_trn", "bs_val", "dump_augmentation_images", "eval")


def resolved(*argv: str, eval_default: str | None = None) -> Settings:
    return read_settings(argv, eval_default=eval_default)


def test_classification_has_the_defaults_of_its_recipe() -> None:
    told = resolved(*ARGV)
    defaults = recipe_defaults()
    assert len(defaults) == 9
    assert {name: flag_values(told)[name] for name in defaults} == defaults
    recipe = told.classification
    assert (recipe.mixup, recipe.cutmix, recipe.smoothing, recipe.reprob) == (0.8, 1.0, 0.1, 0.25)
    assert (recipe.aa, recipe.img_size, recipe.crop_pct) == ("rand-m9-mstd0.5-inc1", 224, 0.9)


def test_typed_values_win_over_the_defaults_of_the_task() -> None:
    told = resolved(*ARGV, "--lr", "0.1", "--optimizer", "sgd", "--bs_trn", "8")
    assert (told.optimiser.lr, told.optimiser.optimizer, told.data.bs_trn) == (0.1, "sgd", 8)
    assert resolved(*ARGV, "--test_mode").schedule.max_epoch == 2


def test_segmentation_keeps_its_defaults() -> None:
    told = resolved()
    assert (told.classification.task, told.data.dataset) == ("segment", "cityscapes")
    assert (told.optimiser.optimizer, told.schedule.max_epoch) == ("sgd", 180)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([*ARGV, "--crop_size", "224"], "--crop_size belongs to segmentation"),
        ([*ARGV, "--rmi_loss"], "--rmi_loss belongs to segmentation"),
        ([*ARGV, "--class_uniform_pct", "0"], "--class_uniform_pct belongs to segmentation"),
        ([*ARGV, "--eval", "val", "--do_flip"], "--do_flip belongs to segmentation"),
        ([*ARGV, "--dataset", "camvid"], "reads --dataset imagenet, not camvid"),
        ([*ARGV, "--eval", "folder"], "--eval val or trn, not folder"),
        (["--mixup", "0.2"], "--mixup belongs to classification: it needs --task classify"),
        (["--img_size", "224"], "--img_size belongs to classification"),
        (["--dataset", "imagenet"], "--dataset imagenet has no label maps"),
        ([*ARGV, "--bs_trn", "3"], "--bs_trn 3: .* even number"),
        ([*ARGV, "--color_jitter", "0.3"], "--color_jitter has no effect .* --aa none"),
        ([*ARGV, "--scale", "0.5,0.1"], "--scale 0.5,0.1: SMALLEST,LARGEST"),
        ([*ARGV, "--scale", "0.5,2"], "--scale 0.5,2: a share"),
        ([*ARGV, "--reprob", "0", "--remode", "rand"], "--remode has no effect"),
        (
            [*ARGV, "--mixup", "0", "--cutmix", "0", "--mixup_mode", "elem"],
            "--mixup_mode has no effect",
        ),
        ([*ARGV, "--lr_schedule", "poly", "--min_lr", "0"], "--min_lr has no effect"),
        ([*ARGV, "--max_iter", "5"], "--max_iter: --lr_schedule cosine goes by epoch"),
    ],
)
def test_flags_that_can_have_no_effect_are_one_line(argv: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        resolved(*argv)
    assert "\n" not in str(error.value)


def test_an_odd_batch_may_be_evaluated_or_trained_unmixed() -> None:
    assert resolved(*ARGV, "--bs_trn", "3", "--eval", "val").data.bs_trn == 3
    assert resolved(*ARGV, "--bs_trn", "3", "--mixup", "0", "--cutmix", "0").data.bs_trn == 3


def flags_of(title: str) -> set[str]:
    """Names of the flags of a group of `--help`."""
    return {
        each.name for each in catalogue().values() if each.declared.flags and each.title == title
    }


def test_every_flag_belongs_to_one_task_or_to_both() -> None:
    task_of = {name: each.task for name, each in catalogue().items() if each.declared.flags}
    assert set(task_of.values()) == {SEGMENT, CLASSIFY, BOTH}
    assert {task_of[name] for name in SHARED} == {BOTH}
    foreign = {name for name, task in task_of.items() if task == SEGMENT}
    assert flags_of("loss") | flags_of("HANet training") <= foreign
    both = flags_of("classification") | flags_of("optimisation") | flags_of("run")
    assert len(both) > 40 and not foreign & (both | flags_of("schedule"))


def test_a_checkpoint_can_turn_an_evaluation_into_one_of_a_classifier() -> None:
    told = resolved("--snapshot", "FILE", eval_default="val")
    told = with_task(told, "classify")
    assert (told.data.dataset, told.data.bs_val) == ("imagenet", 64)
    told = resolved("--snapshot", "FILE", "--dump_assets", eval_default="val")
    with pytest.raises(UserError, match="--dump_assets belongs to segmentation"):
        with_task(told, "classify")


def test_an_evaluation_leaves_the_task_to_its_checkpoint() -> None:
    argv = ("--snapshot", "FILE", "--img_size", "96")
    told = resolved(*argv, eval_default="val")
    told = with_task(told, "classify")
    assert (told.classification.task, told.classification.img_size) == ("classify", 96)
    for task in ("segment", None):  # of a file that says so, and of one that says nothing
        with pytest.raises(UserError, match="--img_size belongs to classification"):
            with_task(resolved(*argv, eval_default="val"), task)
    with pytest.raises(UserError, match="--img_size belongs to classification"):
        resolved(*argv)  # a training has its own task
