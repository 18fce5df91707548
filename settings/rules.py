# SPDX-License-Identifier: Apache-2.0
"""Settings that could have no effect, or contradict one another, are errors.

What a setting needs and excludes stands where it is declared; here are the rules between several.
"""

from __future__ import annotations

from datasets.table import BLACK, TABLE
from runtime.errors import UserError
from settings.catalogue import Setting, catalogue
from settings.declare import SEGMENT
from settings.kinds import SCHEDULES, listed, schedule_of
from settings.needs import AVERAGES
from settings.published import SPLITS
from settings.tree import Settings


def _is_idle(setting: Setting, settings: Settings) -> bool:
    """Whether it stands at the published default at which it does nothing."""
    value, idle = setting.of(settings), setting.declared.idle
    return value == setting.default if idle is True else idle is not False and value == idle


def check_flags(settings: Settings) -> None:
    """Raise UserError for a setting that could have no effect, or contradicts another.

    A published default that is spelled out counts as left out.
    """
    every = catalogue()
    given = {name for name in settings.given & every.keys() if not _is_idle(every[name], settings)}
    for name in sorted(given):
        need = every[name].declared.needs
        if need is not None and not need.holds(settings):
            raise UserError(f"--{name} has no effect without {need.text}")
    for name in sorted(given):
        for other in every[name].declared.excludes:
            if other in given:
                raise UserError(f"--{name} and --{other} exclude each other")
    if "init_decoder" in given:
        raise UserError("--init_decoder: heads are always initialised as published; leave it out")
    for check in (_check_images, _check_schedule, _check_windows, _check_hanet, _check_evaluation):
        check(settings)


def check_keys(settings: Settings) -> None:
    """Raise UserError for a key of the configuration that training would not read."""
    if settings.inference.eval or settings.classification.task != SEGMENT:
        return
    for each in catalogue().values():
        need = each.declared.needs
        if each.declared.flags or need is None or each.of(settings) == each.default:
            continue
        if not need.holds(settings):
            raise UserError(f"{each.key} has no effect without {need.text}")
    code = settings.MODEL.hanet_pos  # of another length: refused by the network
    learns = code[:1] != (0,) and code[1:2] == (0,)
    if settings.data.no_pos_dataset and any(settings.MODEL.hanet) and learns:
        raise UserError(
            f"--no_pos_dataset: --hanet_pos {code[0]} 0 learns a table of positions, and there are "
            "none to learn from; leave one of them out"
        )
    attends = settings.MODEL.batch_attention == "training"
    if attends and settings.data.bs_trn == 1 and not settings.run.resume:
        raise UserError(
            "MODEL.batch_attention=training has no effect with --bs_trn 1: images attend to "
            "the others of their own process, and there are none; take --bs_trn 2 or leave it out"
        )


def can_go_by_iteration(settings: Settings) -> bool:
    """Whether `--lr_schedule` is defined for iterations."""
    kind = schedule_of(settings.schedule)
    if kind.by_iteration is None or not kind.since:
        return kind.by_iteration is not None
    since = catalogue()[kind.since].of(settings)
    return isinstance(since, int) and since >= 0


def _check_images(settings: Settings) -> None:
    sizes, row = settings.augmentation, TABLE[settings.data.dataset]
    if settings.loss.dt_offset_wt > 0 and row.kind == BLACK:
        raise UserError(f"--dt_offset_wt: --dataset {row.name} has no labels")
    if sizes.scale_min > sizes.scale_max:
        raise UserError(f"--scale_min {sizes.scale_min:g} is above --scale_max {sizes.scale_max:g}")
    low, high = sizes.ratio_range
    if not 0 < low <= high:
        raise UserError(f"--ratio_range {low:g},{high:g}: LOW,HIGH above 0 wanted")
    if sizes.test_scale is not None and sizes.pre_size is not None:
        raise UserError("--test_scale and --pre_size exclude each other: both size the images")
    if settings.loss.class_weights is not None and settings.LOSS.CLASS_WEIGHTS is not None:
        raise UserError(
            "--class_weights and LOSS.CLASS_WEIGHTS exclude each other: both weight the classes"
        )
    if settings.loss.cls_wt_loss and not row.cityscapes_classes:
        raise UserError(
            f"--cls_wt_loss: its weights are for the 19 classes of Cityscapes, --dataset "
            f"{row.name} has others; use --img_wt_loss"
        )


def _check_schedule(settings: Settings) -> None:
    schedule, name = settings.schedule, settings.schedule.lr_schedule
    kind = schedule_of(schedule)
    goes_on = settings.inference.eval or settings.run.resume or schedule.max_iter
    if not goes_on and schedule.start_epoch >= schedule.max_epoch:
        raise UserError(
            f"--start_epoch {schedule.start_epoch}: nothing to train, the last epoch is "
            f"{schedule.max_epoch - 1} (--max_epoch {schedule.max_epoch})"
        )
    if schedule.lr_by == "iter" and not can_go_by_iteration(settings):
        others = [key for key, each in SCHEDULES.items() if each.by_iteration and not each.since]
        raise UserError(f"--lr_schedule {name} goes by epoch; --lr_by iter takes {listed(others)}")
    if schedule.max_iter is not None and kind.whole_epochs:
        raise UserError(
            f"--max_iter: --lr_schedule {name} goes by epoch, its length is --max_epoch"
        )
    for missing in (key for key in kind.requires if catalogue()[key].of(settings) is None):
        raise UserError(
            f"--lr_schedule {name} needs --{missing} N, in the unit of --lr_by {schedule.lr_by}"
        )
    if schedule.min_lr > settings.optimiser.lr:
        raise UserError(f"--min_lr {schedule.min_lr:g} is above --lr {settings.optimiser.lr:g}")


def _check_windows(settings: Settings) -> None:
    crop, stride = settings.inference.slide_crop, settings.inference.slide_stride
    if crop is None or stride is None:
        return
    if stride[0] > crop[0] or stride[1] > crop[1]:
        raise UserError(
            f"--slide_stride {stride[0]},{stride[1]} is above --slide_crop {crop[0]},{crop[1]}: "
            "windows further apart leave gaps"
        )
    if settings.outputs.dump_topn_all:
        raise UserError("--dump_topn_all needs maps of the whole image; leave out --slide_crop")


def _check_hanet(settings: Settings) -> None:
    """Raise UserError for contradictions between HANet's inference and the others."""
    inference, split = settings.inference, settings.published.split
    if AVERAGES.holds(settings):
        taken = {
            "multi_scale_inference": inference.multi_scale_inference,
            "do_flip": inference.do_flip,
            "slide_crop": inference.slide_crop,
            "default_scale": inference.default_scale != 1,
        }
        for name in (name for name, is_on in taken.items() if is_on):
            raise UserError(
                f"--{name}: --inference_mode {inference.inference_mode} has windows, --scales and "
                "the mirrored image of its own (--single_scale and --no_flip end these)"
            )
    if split and inference.eval != SPLITS[split]:
        raise UserError(f"--split {split} and --eval {inference.eval} exclude each other")
    if inference.split_index >= inference.split_count:
        raise UserError(
            f"--split_index {inference.split_index}: 0..{inference.split_count - 1} wanted, below "
            "--split_count"
        )


def _check_evaluation(settings: Settings) -> None:
    inference, outputs = settings.inference, settings.outputs
    if inference.eval == "folder" and not inference.eval_folder:
        raise UserError("--eval folder needs --eval_folder DIR, an image, or a list of images")
    dumps = any(value for name, value in vars(outputs).items() if name.startswith("dump_"))
    if inference.no_metrics and inference.eval in ("val", "trn") and not dumps:
        raise UserError("--no_metrics without any --dump_... flag would do nothing")
    if outputs.eval_f1_start < 0:
        return
    if outputs.dump_for_submission:
        raise UserError("--dump_for_submission needs all images; leave --eval_f1_start out")
    if inference.split_count > 1:
        raise UserError("--eval_f1_start and --split_count exclude each other: both cut the set")
