# SPDX-License-Identifier: Apache-2.0
"""Flags of HANet's training and evaluation programs that others do not have.

Those that configure the network stand in `flags/network.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from flags.values import listed, non_negative, non_negative_int, number, positive_int

SLIDING, POOLING, WHOLE = "sliding", "pooling", "whole"
OWN_PROCEDURE = ("scales", "single_scale", "no_flip", "sliding_overlap", "sliding_official")
SPLITS = {"val": "val", "test": "test", "train": "trn"}  # --split -> --eval
TRAIN_FOLDERS, EVAL_FOLDERS = ("ckpt", "date", "exp"), ("ckpt_path", "exp_name")


def add_hanet_training(add: Callable[..., object]) -> None:
    add("--hanet_lr", type=non_negative, default=0.0, help="rate of the HANet blocks, 0: --lr")
    add("--hanet_poly_exp", type=non_negative, default=0.0, help="their exponent, 0: --poly_exp")
    add("--hanet_wd", type=non_negative, default=1e-4, help="their weight decay")
    add("--backbone_lr", type=non_negative, default=0.0, help="rate of layer0, layer1; 0: --lr")
    add("--sgd", action="store_true", help="same as --optimizer sgd (the default)")
    add("--adam", action="store_true", help="same as --optimizer adam")
    add("--aux_loss", action="store_true", help="auxiliary head, weight --ocr_alpha (0.4)")
    add("--cls_wt_loss", action="store_true", help="cross entropy with Cityscapes class weights")
    add("--rlx_off_iter", type=int, default=-1, help="iteration that ends the relaxation, -1 never")
    add("--snapshot_pe", metavar="FILE", help="take only the position tables of a checkpoint")
    add("--ckpt", default="logs/ckpt", metavar="DIR", help="runs go to CKPT/DATE/EXP")
    add("--date", default="default", help="see --ckpt")
    add("--exp", default="default", help="see --ckpt")
    add("--tb_path", metavar="DIR", help="accepted: TensorBoard files lie in the run directory")
    add("--dist_url", metavar="URL", help="accepted: the launcher's address is used")


def add_hanet_evaluation(add: Callable[..., object]) -> None:
    add(
        "--inference_mode",
        "-im",
        choices=(WHOLE, SLIDING, POOLING),
        help="HANet's windows or whole pictures over --scales; whole: one pass",
    )
    add("--scales", type=listed(float, low=0.05), default=(0.5, 1.0, 2.0), help="their scales")
    add("--single_scale", action="store_true", help="scale 1 only")
    add("--no_flip", action="store_true", help="without the mirrored picture")
    add(
        "--sliding_overlap",
        type=number(float, 0, 0.95),
        default=1 / 3,
        help="share of a window that the next one sees too",
    )
    add("--sliding_official", action="store_true", help="the published overlap count")
    add("--bs_window", type=positive_int, default=4, help="windows in one pass of the network")
    add("--split", choices=tuple(SPLITS), help="another spelling of --eval")
    add("--split_count", type=positive_int, default=1, help="number of parts of the images")
    add("--split_index", type=non_negative_int, default=0, help="which of these to evaluate, from 0")
    add("--dump_images", action="store_true", help="rgb, pred, compose and diff pictures")
    add("--ckpt_path", metavar="DIR", help="results go to CKPT_PATH/EXP_NAME/SPLIT")
    add("--exp_name", metavar="NAME", help="see --ckpt_path")


def averages(args: argparse.Namespace) -> bool:
    """Whether HANet's own averaging over scales and mirrored pictures is asked for."""
    return args.inference_mode in (SLIDING, POOLING)


def slides(args: argparse.Namespace) -> bool:
    """Whether HANet's windows are asked for."""
    return bool(args.inference_mode == SLIDING)


def apply_hanet_aliases(args: argparse.Namespace, given: set[str], notes: list[str]) -> None:
    """Other spellings of shared settings, in place; what can surprise is added to `notes`."""
    if args.inference_mode is None:
        args.inference_mode = SLIDING if given & set(OWN_PROCEDURE) else WHOLE
        if args.inference_mode == SLIDING:
            notes.append("--inference_mode sliding, the default of its other flags")
    if args.adam:
        args.optimizer = "adam"
    if args.split and args.eval in (None, "val"):
        args.eval = SPLITS[args.split]
    if args.single_scale:
        args.scales = (1.0,)
    _set_folder(args, given, notes)


def _set_folder(args: argparse.Namespace, given: set[str], notes: list[str]) -> None:
    """The run directory from --ckpt and kin, or from --ckpt_path and kin in an evaluation."""
    names = EVAL_FOLDERS if args.eval else TRAIN_FOLDERS
    if not given & set(names):
        return
    if "result_dir" in given:
        notes.append(f"--result_dir wins over {', '.join(f'--{name}' for name in names)}")
    elif not args.eval:
        args.result_dir = str(Path(args.ckpt, args.date, args.exp))
    else:
        parents = Path(args.snapshot or "").absolute().parents
        root = args.ckpt_path or str(parents[min(2, len(parents) - 1)])
        name = args.exp_name or parents[min(1, len(parents) - 1)].name
        args.result_dir = str(Path(root, name, args.split or args.eval))
