# SPDX-License-Identifier: Apache-2.0
"""Which flags need or exclude one another: settings that could have no effect are errors.

Without torch or NumPy, like all of this package.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from config import Config, LossConfig, UserError
from flags import hanet


def _scored(args: argparse.Namespace) -> bool:
    """Whether this is an evaluation that reads labels."""
    return args.eval in ("val", "trn", "test") and not args.no_metrics


def _outlines(args: argparse.Namespace) -> bool:
    return bool(args.eval_f1 or args.mod_f1)


def _draws_coarse(args: argparse.Namespace) -> bool:
    return args.dataset in ("cityscapes", "synthetic") and args.class_uniform_pct > 0


def _reads_coarse(args: argparse.Namespace) -> bool:
    return bool(args.coarse_boost_classes) or args.only_coarse


def reads_extras(args: argparse.Namespace) -> bool:
    """Whether training draws from coarse images or video frames too."""
    return bool(_reads_coarse(args) or args.maxSkip)


def _stops_extras(args: argparse.Namespace) -> bool:
    """Whether --max_cu_epoch ends draws of extra images, or is too late to end anything.

    How many epochs --max_iter makes is not known here.
    """
    late = args.max_iter is not None or args.max_cu_epoch >= args.max_epoch
    return bool(reads_extras(args) or late)


def _averages(args: argparse.Namespace) -> bool:
    return args.do_flip or args.multi_scale_inference


def _plain_loss(args: argparse.Namespace) -> bool:
    return not (args.rmi_loss or args.img_wt_loss or args.jointwtborder)


PLAIN_LOSS = "plain cross entropy: no --rmi_loss, --img_wt_loss or --jointwtborder"


def _hmsa(args: argparse.Namespace) -> bool:
    return bool(args.augmentation == "hmsa")


def _mmseg(args: argparse.Namespace) -> bool:
    return bool(args.augmentation == "mmseg")


PIPELINE_FLAGS = {
    "hmsa": (
        "scale_min", "scale_max", "color_aug", "gblur", "bblur", "rand_augment",
        "full_crop_training", "translate_aug_fix", "crop_nopad", "rrotate",
    ),
    "mmseg": ("img_scale", "ratio_range", "cat_max_ratio"),
}  # fmt: skip


LABELLED = "labels: --eval val, trn or test, no --no_metrics"
COARSE_FLAGS = "--coarse_boost_classes or --only_coarse"
COARSE_NEEDS = "--dataset cityscapes or synthetic, and a --class_uniform_pct above 0"

# flag -> (condition on the other flags, what the flag needs)
Needs = dict[str, tuple[Callable[[argparse.Namespace], bool], str]]
NEEDS: Needs = {
    "batch_weighting": (
        lambda a: a.img_wt_loss or a.jointwtborder,
        "--img_wt_loss or --jointwtborder",
    ),
    "wt_bound": (lambda a: a.img_wt_loss or a.jointwtborder, "--img_wt_loss or --jointwtborder"),
    "strict_bdr_cls": (lambda a: a.jointwtborder, "--jointwtborder"),
    "rlx_off_epoch": (
        lambda a: a.jointwtborder or a.lr_schedule == "scl-poly",
        "--jointwtborder or --lr_schedule scl-poly",
    ),
    "dt_offset_source": (lambda a: a.dt_offset_wt > 0, "--dt_offset_wt above 0"),
    "amsgrad": (lambda a: a.optimizer in ("adam", "adamw"), "--optimizer adam or adamw"),
    "poly_step": (lambda a: a.lr_schedule == "poly2", "--lr_schedule poly2"),
    "rescale": (lambda a: a.lr_schedule == "scl-poly", "--lr_schedule scl-poly"),
    "repoly": (lambda a: a.lr_schedule == "scl-poly", "--lr_schedule scl-poly"),
    "betas": (lambda a: a.optimizer != "sgd", "--optimizer adam, radam or adamw"),
    "adam_eps": (lambda a: a.optimizer != "sgd", "--optimizer adam, radam or adamw"),
    "lr_step": (lambda a: a.lr_schedule == "step", "--lr_schedule step"),
    "lr_gamma": (lambda a: a.lr_schedule == "step", "--lr_schedule step"),
    "min_lr": (
        lambda a: (a.lr_by == "iter" and a.lr_schedule == "poly") or a.lr_schedule == "cosine",
        "--lr_schedule cosine, or poly and --lr_by iter",
    ),
    **{
        name: (lambda a: a.lr_schedule == "cosine", "--lr_schedule cosine")
        for name in ("warmup_epochs", "warmup_lr", "cooldown_epochs")
    },
    "warmup_ratio": (lambda a: a.warmup_iters > 0, "--warmup_iters N"),
    "loss_average": (_plain_loss, PLAIN_LOSS),
    "ohem_threshold": (_plain_loss, PLAIN_LOSS),
    "ohem_min_kept": (lambda a: a.ohem_threshold is not None, "--ohem_threshold T"),
    "average": (_averages, "--do_flip or --multi_scale_inference"),
    "slide_crop": (lambda a: a.slide_stride, "--slide_stride N, e.g. three quarters of it"),
    "slide_stride": (lambda a: a.slide_crop, "--slide_crop N"),
    "slide_pad": (lambda a: a.slide_crop, "--slide_crop N"),
    "bs_window": (
        lambda a: a.slide_crop or hanet.slides(a),
        "--slide_crop N or --inference_mode sliding",
    ),
    "warmup_iters": (lambda a: a.lr_by == "iter", "--lr_by iter"),
    "extra_scales": (lambda a: a.multi_scale_inference, "--multi_scale_inference"),
    "log_msinf_to_tb": (
        lambda a: a.multi_scale_inference and a.eval,
        "--multi_scale_inference, in an evaluation",
    ),
    "dump_topn": (_scored, LABELLED),
    "dump_topn_all": (lambda a: a.dump_topn, "--dump_topn N"),
    **{flag: (_scored, LABELLED) for flag in ("eval_f1", "mod_f1", "eval_distance_crop")},
    "eval_f1_th": (lambda a: a.eval_f1, "--eval_f1"),
    "eval_f1_missing": (_outlines, "--eval_f1 or --mod_f1"),
    "eval_f1_labels": (_outlines, "--eval_f1 or --mod_f1"),
    "eval_f1_start": (_scored, LABELLED),
    "eval_f1_step_size": (lambda a: a.eval_f1_start >= 0, "--eval_f1_start N"),
    "dump_attention": (lambda a: a.eval, "--eval"),
    "refine_boundaries": (lambda a: a.eval, "--eval"),
    "eval_folder": (lambda a: a.eval == "folder", "--eval folder"),
    "pre_size": (lambda a: _hmsa(a) or a.eval, "--augmentation hmsa, in training"),
    "size_divisor": (lambda a: a.test_scale is not None, "--test_scale"),
    **{flag: (_hmsa, "--augmentation hmsa") for flag in PIPELINE_FLAGS["hmsa"]},
    **{flag: (_mmseg, "--augmentation mmseg") for flag in PIPELINE_FLAGS["mmseg"]},
    "coarse_boost_classes": (_draws_coarse, COARSE_NEEDS),
    "only_coarse": (_draws_coarse, COARSE_NEEDS),
    "max_cu_epoch": (_stops_extras, f"{COARSE_FLAGS} or --maxSkip"),
    "custom_coarse_dropout_classes": (_reads_coarse, COARSE_FLAGS),
    "custom_coarse_prob": (
        lambda a: _reads_coarse(a) or a.dump_for_auto_labelling,
        f"{COARSE_FLAGS} or --dump_for_auto_labelling",
    ),
    "mask_out_cityscapes": (_reads_coarse, COARSE_FLAGS),
    "restore_optimizer": (lambda a: a.snapshot and not a.eval, "--snapshot, in training"),
    "restore_net": (lambda a: a.snapshot, "--snapshot"),
    "allow_partial": (lambda a: a.snapshot, "--snapshot"),
    **hanet.NEEDS,
}
REFUSED_TOGETHER = (
    ("max_iter", "max_epoch"),
    ("val_iters", "val_freq"),
    ("resume", "snapshot"),
    ("fp16", "precision"),
    ("only_coarse", "coarse_boost_classes"),
    *hanet.REFUSED_TOGETHER,
)


def check_flags(args: argparse.Namespace, given: set[str]) -> None:
    """Raise UserError for a setting that could have no effect, or contradicts another.

    A published default that is spelled out counts as left out.
    """
    given = {flag for flag in given if not hanet.spelled_out(args, flag)}
    for flag in sorted(given & NEEDS.keys()):
        holds, needed = NEEDS[flag]
        if not holds(args):
            raise UserError(f"--{flag} has no effect without {needed}")
    for first, second in REFUSED_TOGETHER:
        if first in given and second in given:
            raise UserError(f"--{first} and --{second} exclude each other")
    if args.dt_offset_wt > 0 and args.dataset == "nullloader":
        raise UserError("--dt_offset_wt: --dataset nullloader has no labels")
    if args.scale_min > args.scale_max:
        raise UserError(f"--scale_min {args.scale_min:g} is above --scale_max {args.scale_max:g}")
    if not 0 < args.ratio_range[0] <= args.ratio_range[1]:
        raise UserError(
            "--ratio_range {:g},{:g}: LOW,HIGH above 0 wanted".format(*args.ratio_range)
        )
    if args.test_scale is not None and args.pre_size is not None:
        raise UserError("--test_scale and --pre_size exclude each other: both size the images")
    if "init_decoder" in given:
        raise UserError("--init_decoder: heads are always initialised as published; leave it out")
    _check_schedule(args)
    _check_windows(args)
    hanet.check_hanet(args)
    if args.eval == "folder" and not args.eval_folder:
        raise UserError("--eval folder needs --eval_folder DIR, an image, or a list of images")
    if args.no_metrics and args.eval in ("val", "trn"):
        dumps = args.dump_assets, args.dump_all_images, args.dump_images, args.dump_for_submission
        if not any((*dumps, args.dump_for_auto_labelling, args.dump_attention)):
            raise UserError("--no_metrics without any --dump_... flag would do nothing")
    if args.eval_f1_start >= 0:
        _check_slice(args)


def _check_slice(args: argparse.Namespace) -> None:
    """`--eval_f1_start` cuts the set: nothing that needs all of it, no other cut."""
    if args.dump_for_submission:
        raise UserError("--dump_for_submission needs all images; leave --eval_f1_start out")
    if args.split_count > 1:
        raise UserError("--eval_f1_start and --split_count exclude each other: both cut the set")


def can_go_by_iteration(args: argparse.Namespace) -> bool:
    """Whether `--lr_schedule` is defined for iterations."""
    return args.lr_schedule in ("poly", "step") or args.rlx_off_iter >= 0


def check_settings(args: argparse.Namespace, cfg: Config) -> None:
    """Raise UserError for a key of the configuration that training would not read."""
    if args.eval or args.task != "segment":
        return
    default = LossConfig()
    for name in ("BOUNDARY_WEIGHTS", "BOUNDARY_OFFICIAL"):
        if args.dt_offset_wt == 0 and getattr(cfg.LOSS, name) != getattr(default, name):
            raise UserError(f"LOSS.{name} has no effect without --dt_offset_wt above 0")
    for name in ("IMAGE_MEAN", "HISTOGRAM_OFFICIAL"):
        if getattr(cfg.LOSS, name) and (args.rmi_loss or not args.img_wt_loss):
            raise UserError(f"LOSS.{name} has no effect without --img_wt_loss, or with --rmi_loss")
    code = cfg.MODEL.hanet_pos  # of another length: refused by the network
    learns = code[:1] != (0,) and code[1:2] == (0,)
    if args.no_pos_dataset and any(cfg.MODEL.hanet) and learns:
        raise UserError(
            f"--no_pos_dataset: --hanet_pos {code[0]} 0 learns a table of positions, and there are "
            "none to learn from; leave one of them out"
        )
    if cfg.MODEL.batch_attention == "training" and args.bs_trn == 1 and not args.resume:
        raise UserError(
            "MODEL.batch_attention=training has no effect with --bs_trn 1: images attend to "
            "the others of their own process, and there are none; take --bs_trn 2 or leave it out"
        )


def _check_schedule(args: argparse.Namespace) -> None:
    if not (args.eval or args.resume or args.max_iter) and args.start_epoch >= args.max_epoch:
        raise UserError(
            f"--start_epoch {args.start_epoch}: nothing to train, the last epoch is "
            f"{args.max_epoch - 1} (--max_epoch {args.max_epoch})"
        )
    name = args.lr_schedule
    if args.lr_by == "iter" and not can_go_by_iteration(args):
        raise UserError(f"--lr_schedule {name} goes by epoch; --lr_by iter takes poly or step")
    if args.max_iter is not None and name == "cosine":
        raise UserError("--max_iter: --lr_schedule cosine goes by epoch, its length is --max_epoch")
    if name == "step" and args.lr_step is None:
        raise UserError(
            f"--lr_schedule step needs --lr_step N, in the unit of --lr_by {args.lr_by}"
        )
    if args.min_lr > args.lr:
        raise UserError(f"--min_lr {args.min_lr:g} is above --lr {args.lr:g}")


def _check_windows(args: argparse.Namespace) -> None:
    if not args.slide_crop:
        return
    crop, stride = args.slide_crop, args.slide_stride
    if stride[0] > crop[0] or stride[1] > crop[1]:
        raise UserError(
            f"--slide_stride {stride[0]},{stride[1]} is above --slide_crop {crop[0]},{crop[1]}: "
            "windows further apart leave gaps"
        )
    if args.dump_topn_all:
        raise UserError("--dump_topn_all needs maps of the whole image; leave out --slide_crop")
