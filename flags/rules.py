# SPDX-License-Identifier: Apache-2.0
"""Which flags need or exclude one another: settings that could have no effect are errors.

Without torch or NumPy, like all of this package.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from config import UserError


def _scored(args: argparse.Namespace) -> bool:
    """Whether this is an evaluation that reads labels."""
    return args.eval in ("val", "trn", "test") and not args.no_metrics


def _draws_coarse(args: argparse.Namespace) -> bool:
    return args.dataset in ("cityscapes", "synthetic") and args.class_uniform_pct > 0


def _reads_coarse(args: argparse.Namespace) -> bool:
    return bool(args.coarse_boost_classes) or args.only_coarse


COARSE_FLAGS = "--coarse_boost_classes or --only_coarse"
COARSE_NEEDS = "--dataset cityscapes or synthetic, and a --class_uniform_pct above 0"

# flag -> (condition on the other flags, what the flag needs)
Needs = dict[str, tuple[Callable[[argparse.Namespace], bool], str]]
NEEDS: Needs = {
    "batch_weighting": (lambda a: a.img_wt_loss, "--img_wt_loss"),
    "wt_bound": (lambda a: a.img_wt_loss or a.jointwtborder, "--img_wt_loss or --jointwtborder"),
    "strict_bdr_cls": (lambda a: a.jointwtborder, "--jointwtborder"),
    "rlx_off_epoch": (
        lambda a: a.jointwtborder or a.lr_schedule == "scl-poly",
        "--jointwtborder or --lr_schedule scl-poly",
    ),
    "amsgrad": (lambda a: a.optimizer in ("adam", "adamw"), "--optimizer adam or adamw"),
    "poly_step": (lambda a: a.lr_schedule == "poly2", "--lr_schedule poly2"),
    "rescale": (lambda a: a.lr_schedule == "scl-poly", "--lr_schedule scl-poly"),
    "repoly": (lambda a: a.lr_schedule == "scl-poly", "--lr_schedule scl-poly"),
    "warmup_iters": (lambda a: a.lr_by == "iter", "--lr_by iter"),
    "extra_scales": (lambda a: a.multi_scale_inference, "--multi_scale_inference"),
    "default_scale": (lambda a: a.multi_scale_inference, "--multi_scale_inference"),
    "log_msinf_to_tb": (
        lambda a: a.multi_scale_inference and a.eval,
        "--multi_scale_inference, in an evaluation",
    ),
    "dump_topn": (_scored, "labels: --eval val, trn or test, no --no_metrics"),
    "dump_topn_all": (lambda a: a.dump_topn, "--dump_topn N"),
    "eval_f1": (_scored, "labels: --eval val, trn or test, no --no_metrics"),
    "eval_f1_th": (lambda a: a.eval_f1, "--eval_f1"),
    "dump_attention": (lambda a: a.eval, "--eval"),
    "eval_folder": (lambda a: a.eval == "folder", "--eval folder"),
    "map_crop_val": (lambda a: a.pre_size is not None, "--pre_size"),
    "coarse_boost_classes": (_draws_coarse, COARSE_NEEDS),
    "only_coarse": (_draws_coarse, COARSE_NEEDS),
    "max_cu_epoch": (_reads_coarse, COARSE_FLAGS),
    "custom_coarse_dropout_classes": (_reads_coarse, COARSE_FLAGS),
    "custom_coarse_prob": (
        lambda a: _reads_coarse(a) or a.dump_for_auto_labelling,
        f"{COARSE_FLAGS} or --dump_for_auto_labelling",
    ),
    "mask_out_cityscapes": (_reads_coarse, COARSE_FLAGS),
    "restore_optimizer": (lambda a: a.snapshot and not a.eval, "--snapshot, in training"),
    "restore_net": (lambda a: a.snapshot, "--snapshot"),
    "allow_partial": (lambda a: a.snapshot, "--snapshot"),
}
REFUSED_TOGETHER = (
    ("max_iter", "max_epoch"),
    ("resume", "snapshot"),
    ("fp16", "precision"),
    ("only_coarse", "coarse_boost_classes"),
)


def check_flags(args: argparse.Namespace, given: set[str]) -> None:
    """Raise UserError for a setting that could have no effect, or contradicts another."""
    for flag in sorted(given & NEEDS.keys()):
        holds, needed = NEEDS[flag]
        if not holds(args):
            raise UserError(f"--{flag} has no effect without {needed}")
    for first, second in REFUSED_TOGETHER:
        if first in given and second in given:
            raise UserError(f"--{first} and --{second} exclude each other")
    if args.scale_min > args.scale_max:
        raise UserError(f"--scale_min {args.scale_min:g} is above --scale_max {args.scale_max:g}")
    if "init_decoder" in given:
        raise UserError("--init_decoder: heads are always initialised as published; leave it out")
    if args.lr_by == "iter" and args.lr_schedule != "poly":
        raise UserError(f"--lr_schedule {args.lr_schedule} goes by epoch; --lr_by iter takes poly")
    if args.eval == "folder" and not args.eval_folder:
        raise UserError("--eval folder needs --eval_folder DIR")
    if args.no_metrics and args.eval in ("val", "trn"):
        dumps = args.dump_assets, args.dump_all_images, args.dump_for_submission
        if not any((*dumps, args.dump_for_auto_labelling, args.dump_attention)):
            raise UserError("--no_metrics without any --dump_... flag would do nothing")
