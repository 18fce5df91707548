# SPDX-License-Identifier: Apache-2.0
"""What published spellings and settings left open mean: one step from typed to meant values."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from runtime.errors import UserError
from runtime.remote import TIMM, is_remote
from settings.convert import number
from settings.needs import SLIDING, WHOLE, reads_extras
from settings.outputs import HILA_THRESHOLD
from settings.published import PUBLISHED_TRUNKS, REPLACED, SPLITS, WITHOUT_EFFECT
from settings.ranges import PROCESS
from settings.rules import can_go_by_iteration
from settings.tree import Settings

TAKES_TRUNKS = "timm."  # begins the architectures that --trunk names the trunk of
OWN_PROCEDURE = ("scales", "single_scale", "no_flip", "sliding_overlap", "sliding_official")
TRAIN_FOLDERS, EVAL_FOLDERS = ("ckpt", "date", "exp"), ("ckpt_path", "exp_name")


def notes_of(given: frozenset[str]) -> tuple[str, ...]:
    """A line for each accepted flag without effect."""
    return (
        *(
            f"--{name} never had an effect and is ignored; use {WITHOUT_EFFECT[name]}"
            for name in sorted(given & WITHOUT_EFFECT.keys())
        ),
        *(f"--{name}: {REPLACED[name]}" for name in sorted(given & REPLACED.keys())),
    )


def meant(settings: Settings) -> Settings:
    """`settings` with old spellings mapped and open choices made; `notes` say what can surprise.

    UserError for a LOCAL_RANK that no launcher sets, and for a trunk where there is one.
    """
    settings = replace(settings, notes=(*settings.notes, *notes_of(settings.given)))
    for step in STEPS:
        settings = step(settings)
    return settings


def _noted(settings: Settings, note: str) -> Settings:
    return replace(settings, notes=(*settings.notes, note))


def _precision(settings: Settings) -> Settings:
    """`--fp16`, and apex's levels."""
    old = settings.published
    half = old.amp_opt_level in ("O1", "O2", "O3") and "precision" not in settings.given
    if not (old.fp16 or half):
        return settings
    return replace(settings, run=replace(settings.run, precision="fp16"))


def _trunk(settings: Settings) -> Settings:
    """`--trunk` of published command lines, with an architecture that has a trunk of its own.

    An architecture that takes any trunk has that of `--pretrained timm:NAME` if none is named.
    UserError for a model of timm, which such an architecture cannot take.
    """
    name, arch = settings.MODEL.trunk, settings.network.arch
    is_told = "arch" in settings.given or not settings.network.snapshot  # else the file says it
    weights = settings.MODEL.pretrained
    if is_told and arch.removeprefix("network.").startswith(TAKES_TRUNKS):
        if name or not weights.startswith(TIMM):
            return settings
        return replace(settings, MODEL=replace(settings.MODEL, trunk=weights.removeprefix(TIMM)))
    if not name or not is_told:
        return settings
    if name not in PUBLISHED_TRUNKS and _is_in_timm(name):
        raise UserError(
            f"--trunk {name}: --arch {arch} has a trunk of its own; --arch timm.OCR and the other "
            "timm.* architectures take models of timm"
        )
    settings = replace(settings, MODEL=replace(settings.MODEL, trunk=""))
    return _noted(
        settings,
        f"--trunk {name} never had an effect on --arch {arch}, whose name says the trunk, and is "
        "ignored",
    )


def _is_in_timm(name: str) -> bool:
    import timm  # takes a second, and is only asked about names that are not published

    return bool(timm.is_model(name.partition(".")[0]))


def _blur(settings: Settings) -> Settings:
    both = {"gblur", "bblur"} <= settings.given
    return _noted(settings, "--bblur wins over --gblur") if both else settings


def _slice(settings: Settings) -> Settings:
    """What `--eval_f1_start` switches on in HILA's tester."""
    outputs = settings.outputs
    if outputs.eval_f1_start < 0:
        return settings
    outputs = replace(outputs, eval_f1=outputs.eval_f1 or not outputs.mod_f1)
    if "eval_f1_th" not in settings.given:
        outputs = replace(outputs, eval_f1_th=(HILA_THRESHOLD,))
    note = "--eval_f1_start is not needed for memory, images stream; the sums in results.json of "
    return _noted(replace(settings, outputs=outputs), f"{note}several slices add up")


def _hanet(settings: Settings) -> Settings:
    """The spellings of HANet's programs."""
    inference, old = settings.inference, settings.published
    if inference.inference_mode is None:
        own = bool(settings.given & set(OWN_PROCEDURE))
        inference = replace(inference, inference_mode=SLIDING if own else WHOLE)
        if own:
            note = "--inference_mode sliding, the default of its other flags"
            settings = _noted(settings, note)
    if old.split and "eval" not in settings.given:
        inference = replace(inference, eval=SPLITS[old.split])
    if old.single_scale:
        inference = replace(inference, scales=(1.0,))
    if old.adam:
        settings = replace(settings, optimiser=replace(settings.optimiser, optimizer="adam"))
    return replace(settings, inference=inference)


def _folder(settings: Settings) -> Settings:
    """The run directory from --ckpt and kin, or from --ckpt_path and kin in an evaluation."""
    eval_mode, old, given = settings.inference.eval, settings.published, settings.given
    names = EVAL_FOLDERS if eval_mode else TRAIN_FOLDERS
    if not given & set(names):
        return settings
    if "result_dir" in given:
        flags = ", ".join(f"--{name}" for name in names)
        return _noted(settings, f"--result_dir wins over {flags}")
    if not eval_mode:
        place = Path(old.ckpt, old.date, old.exp)
    else:
        file = settings.network.snapshot or ""
        parents = Path("" if is_remote(file) else file).absolute().parents
        root = old.ckpt_path or str(parents[min(2, len(parents) - 1)])
        name = old.exp_name or parents[min(1, len(parents) - 1)].name
        place = Path(root, name, old.split or eval_mode)
    return replace(settings, run=replace(settings.run, result_dir=str(place)))


def _rank(settings: Settings) -> Settings:
    """LOCAL_RANK as launchers set it, 0 without; UserError for anything but such a number."""
    if settings.run.local_rank is not None:
        return settings
    text = os.environ.get("LOCAL_RANK", "0")
    try:
        rank = int(number(int, PROCESS)(text))
    except argparse.ArgumentTypeError as error:
        raise UserError(
            f"environment LOCAL_RANK: {error}; launchers set it, unset it without one"
        ) from None
    return replace(settings, run=replace(settings.run, local_rank=rank))


def _rate(settings: Settings) -> Settings:
    """When the schedule steps, where the user does not say."""
    schedule = settings.schedule
    if schedule.lr_by is not None:
        return settings
    by_iteration = schedule.max_iter is not None and can_go_by_iteration(settings)
    schedule = replace(schedule, lr_by="iter" if by_iteration else "epoch")
    if by_iteration and not settings.inference.eval:
        note = "--max_iter: the learning rate goes by iteration, as with --lr_by iter"
        settings = _noted(settings, note)
    return replace(settings, schedule=schedule)


def _test_mode(settings: Settings) -> Settings:
    if not settings.run.test_mode:
        return settings
    schedule = replace(settings.schedule, max_epoch=2, max_iter=None)
    return replace(settings, schedule=schedule, run=replace(settings.run, val_iters=None))


def _windows(settings: Settings) -> Settings:
    if not (settings.inference.slide_crop and settings.outputs.dump_assets):
        return settings
    note = "--slide_crop: attention and single-scale maps are not dumped, windows differ"
    return _noted(settings, note)


STEPS = (
    _precision, _trunk, _blur, _slice, _hanet, _folder, _rank, _rate, _test_mode, _windows,
)  # fmt: skip


def without_idle(settings: Settings) -> Settings:
    """`settings` without what has nothing to act on, which a line of the log says.

    Without any HANet block `--hanet_lr` is 0; without extra images nothing ends them.
    """
    if settings.hanet.hanet_lr != 0 and not any(settings.MODEL.hanet):
        settings = replace(settings, hanet=replace(settings.hanet, hanet_lr=0.0))
        note = "--hanet_lr: no HANet block, --lr is used for all parameters"
        settings = _noted(settings, note)
    late = "max_cu_epoch" in settings.given and not settings.inference.eval
    if late and not reads_extras(settings):
        note = "--max_cu_epoch: there are no extra images whose draws it could end"
        settings = _noted(settings, note)
    return settings
