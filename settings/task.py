# SPDX-License-Identifier: Apache-2.0
"""Which settings belong to which task, and the defaults of `--task classify`."""

from __future__ import annotations

import dataclasses

from datasets.table import CLASS_FOLDERS, TABLE, names
from runtime.errors import UserError
from settings.catalogue import catalogue, with_values
from settings.declare import CLASSIFY, SEGMENT
from settings.tree import Settings

EVAL_MODES = ("val", "trn")


def recipe_defaults() -> dict[str, object]:
    """Name -> default with `--task classify`, where it is another one."""
    return {
        name: each.declared.classify
        for name, each in catalogue().items()
        if each.declared.classify is not None
    }


def with_task_defaults(settings: Settings) -> Settings:
    """`settings` where flags that the user did not type have the default of the task."""
    if settings.classification.task != CLASSIFY:
        return settings
    return with_values(
        settings, {k: v for k, v in recipe_defaults().items() if k not in settings.given}
    )


def asks_file(settings: Settings) -> bool:
    """Whether this is an evaluation whose checkpoint may know its task: see `with_task`."""
    return bool(
        settings.inference.eval
        and settings.network.snapshot
        and not settings.network.from_run
        and "task" not in settings.given
    )


def with_task(settings: Settings, task: str | None) -> Settings:
    """`settings` as a checkpoint tells its task, None for one that does not.

    Nothing changes where `--task` or `--from_run` decide. UserError for flags of the other task.
    """
    if not asks_file(settings):
        return settings
    if task:
        changed = dataclasses.replace(settings.classification, task=task)
        settings = dataclasses.replace(settings, classification=changed)
    settings = with_task_defaults(settings)
    check_task(settings)
    return settings


def check_task(settings: Settings) -> None:
    """Raise UserError for a flag of the other task, and for settings that do not fit together."""
    given, dataset, eval_mode = settings.given, settings.data.dataset, settings.inference.eval
    has_class_folders = TABLE[dataset].kind == CLASS_FOLDERS
    if settings.classification.task == SEGMENT:
        for name in sorted(_foreign(CLASSIFY) & given):
            raise UserError(f"--{name} belongs to classification: it needs --task classify")
        if has_class_folders:
            raise UserError(f"--dataset {dataset} has no label maps: it needs --task classify")
        return
    for name in sorted(_foreign(SEGMENT) & given):
        raise UserError(f"--{name} belongs to segmentation: --task classify does not use it")
    if not has_class_folders:
        wanted = " or ".join(names(lambda row: row.kind == CLASS_FOLDERS))
        raise UserError(f"--task classify reads --dataset {wanted}, not {dataset}")
    if eval_mode is not None and eval_mode not in EVAL_MODES:
        raise UserError(f"--task classify: --eval {' or '.join(EVAL_MODES)}, not {eval_mode}")
    _check_values(settings)


def _foreign(task: str) -> set[str]:
    """Names of the flags that `task` alone reads."""
    return {name for name, each in catalogue().items() if each.task == task}


def mixes(settings: Settings) -> bool:
    """Whether training mixes the images of a batch."""
    recipe = settings.classification
    return bool(recipe.mixup or recipe.cutmix or recipe.cutmix_minmax)


def _check_values(settings: Settings) -> None:
    recipe, given = settings.classification, settings.given
    pairs = {"scale": recipe.scale, "ratio": recipe.ratio, "cutmix_minmax": recipe.cutmix_minmax}
    for name, pair in pairs.items():
        if pair is not None and not 0 < pair[0] <= pair[1]:
            raise UserError(f"--{name} {pair[0]:g},{pair[1]:g}: SMALLEST,LARGEST above 0 wanted")
    for name in ("scale", "cutmix_minmax"):
        pair = pairs[name]
        if pair is not None and pair[1] > 1:
            raise UserError(f"--{name} {pair[0]:g},{pair[1]:g}: a share of at most 1 wanted")
    if "color_jitter" in given and recipe.aa != "none" and recipe.color_jitter:
        raise UserError("--color_jitter has no effect under a policy: add --aa none")
    for name in ("remode", "recount"):
        if name in given and not recipe.reprob:
            raise UserError(f"--{name} has no effect without --reprob above 0")
    for name in ("mixup_prob", "mixup_switch_prob", "mixup_mode", "mixup_off_epoch"):
        if name in given and not mixes(settings):
            raise UserError(f"--{name} has no effect without --mixup or --cutmix above 0")
    batch = settings.data.bs_trn
    if settings.inference.eval is None and mixes(settings) and batch % 2:
        raise UserError(
            f"--bs_trn {batch}: mixup and cutmix pair the images of a batch; choose an even "
            "number, or switch both off (--mixup 0 --cutmix 0)"
        )
