# SPDX-License-Identifier: Apache-2.0
"""Flags of HANet's training and evaluation programs that others do not have.

Those that configure the network stand in `flags/network.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from config import UserError
from flags.values import (
    COUNT,
    SCALES,
    exponent,
    file_name,
    listed,
    non_negative,
    non_negative_int,
    number,
    positive_int,
    rate,
)

SLIDING, POOLING, WHOLE = "sliding", "pooling", "whole"
OWN_PROCEDURE = ("scales", "single_scale", "no_flip", "sliding_overlap", "sliding_official")
SPLITS = {"val": "val", "test": "test", "train": "trn"}  # --split -> --eval
TRAIN_FOLDERS, EVAL_FOLDERS = ("ckpt", "date", "exp"), ("ckpt_path", "exp_name")


def add_hanet_training(add: Callable[..., object]) -> None:
    add("--hanet_lr", type=rate, default=0.0, help="rate of the HANet blocks, 0: --lr")
    add("--hanet_poly_exp", type=exponent, default=0.0, help="their exponent, 0: --poly_exp")
    add("--hanet_wd", type=rate, default=1e-4, help="their weight decay")
    add("--backbone_lr", type=rate, default=0.0, help="rate of layer0, layer1; 0: --lr")
    add("--sgd", action="store_true", help="same as --optimizer sgd (the default)")
    add("--adam", action="store_true", help="same as --optimizer adam")
    add("--attention_loss", type=non_negative, default=0.0, help="weight of the fifth block's loss")
    add("--cls_wt_loss", action="store_true", help="cross entropy with Cityscapes class weights")
    add(
        "--rlx_off_iter",
        type=number(int, -1, COUNT),
        default=-1,
        help="iteration that ends the relaxation, -1 never",
    )
    add(
        "--snapshot_pe",
        type=file_name,
        metavar="FILE",
        help="take only the position tables of a checkpoint",
    )
    add(
        "--ckpt",
        type=file_name,
        default="logs/ckpt",
        metavar="DIR",
        help="runs go to CKPT/DATE/EXP",
    )
    add("--date", type=file_name, default="default", help="see --ckpt")
    add("--exp", type=file_name, default="default", help="see --ckpt")
    add(
        "--tb_path",
        type=file_name,
        metavar="DIR",
        help="accepted: TensorBoard files lie in the run directory",
    )
    add("--dist_url", metavar="URL", help="accepted: the launcher's address is used")


def add_hanet_evaluation(add: Callable[..., object]) -> None:
    scales = listed(float, low=SCALES[0], high=SCALES[1])
    add(
        "--inference_mode",
        "-im",
        choices=(WHOLE, SLIDING, POOLING),
        help="HANet's windows or whole images over --scales; whole: one pass",
    )
    add("--scales", type=scales, default=(0.5, 1.0, 2.0), help="their scales")
    add("--single_scale", action="store_true", help="scale 1 only")
    add("--no_flip", action="store_true", help="without the mirrored image")
    add(
        "--sliding_overlap",
        type=number(float, 0, 0.95),
        default=1 / 3,
        help="share of a window that the next one sees too",
    )
    add("--sliding_official", action="store_true", help="the published overlap count")
    add("--split", choices=tuple(SPLITS), help="another spelling of --eval")
    add("--split_count", type=positive_int, default=1, help="number of parts of the images")
    add("--split_index", type=non_negative_int, default=0, help="the part to evaluate, from 0")
    add("--dump_images", action="store_true", help="rgb, pred, compose and diff images")
    add("--ckpt_path", type=file_name, metavar="DIR", help="results go to CKPT_PATH/EXP_NAME/SPLIT")
    add("--exp_name", type=file_name, metavar="NAME", help="see --ckpt_path")


# Published defaults at which a flag does nothing; scripts may spell them out.
SPELLED_OUT: dict[str, object] = {
    "rlx_off_epoch": -1,
    "rlx_off_iter": -1,
    "strict_bdr_cls": (),
    "wt_bound": 1.0,
    "rescale": 1.0,
    "repoly": 1.5,
    "hanet_lr": 0.0,
    "hanet_poly_exp": 0.0,
    "hanet_wd": 1e-4,
    "backbone_lr": 0.0,
    "maxSkip": 0,
    "split_index": 0,
    "split_count": 1,
}


def spelled_out(args: argparse.Namespace, flag: str) -> bool:
    """Whether `flag` stands at the published default at which it does nothing."""
    return flag in SPELLED_OUT and getattr(args, flag) == SPELLED_OUT[flag]


def drop_own_rate(args: argparse.Namespace) -> list[str]:
    """Without any block `--hanet_lr` has nothing to act on: 0, in place, and a line to log."""
    if args.hanet_lr == 0 or any(args.hanet):
        return []
    args.hanet_lr = 0.0
    return ["--hanet_lr: no HANet block, --lr is used for all parameters"]


def averages(args: argparse.Namespace) -> bool:
    """Whether HANet's own averaging over scales and mirrored images is asked for."""
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
    if args.split and "eval" not in given:
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


def _draws_video(args: argparse.Namespace) -> bool:
    return args.dataset in ("cityscapes", "synthetic") and not args.eval


def _trains(args: argparse.Namespace) -> bool:
    return not args.eval


def _evaluates(args: argparse.Namespace) -> bool:
    return bool(args.eval)


def _from_snapshot(args: argparse.Namespace) -> bool:
    return bool(args.eval and args.snapshot)


def _has_own_rate(args: argparse.Namespace) -> bool:
    return bool(args.hanet_lr > 0)


def _relaxes(args: argparse.Namespace) -> bool:
    return bool(args.jointwtborder or args.lr_schedule == "scl-poly")


WITH_TRAINVAL = ("cityscapes", "synthetic", "camvid", "kitti")
CITYSCAPES_CLASSES = ("cityscapes", "synthetic", "bdd100k", "gtav", "kitti", "nullloader")

Condition = tuple[Callable[[argparse.Namespace], bool], str]
AVERAGES: Condition = (averages, "--inference_mode sliding or pooling")
SLIDES: Condition = (slides, "--inference_mode sliding")
TRAINS: Condition = (_trains, "training")
EVALUATES: Condition = (_evaluates, "--eval")
FROM_SNAPSHOT: Condition = (_from_snapshot, "--eval and --snapshot")
OWN_RATE: Condition = (_has_own_rate, "--hanet_lr above 0")

# as `rules.NEEDS` and `rules.REFUSED_TOGETHER`
NEEDS: dict[str, Condition] = {
    "city_mode": (
        lambda args: args.dataset in WITH_TRAINVAL,
        f"--dataset {' or '.join(WITH_TRAINVAL)}",
    ),
    "maxSkip": (_draws_video, "--dataset cityscapes or synthetic, in training"),
    "scf": (
        lambda args: args.dataset == "kitti" and args.augmentation == "hmsa",
        "--dataset kitti and --augmentation hmsa",
    ),
    "pre_size_of": (lambda args: args.pre_size is not None, "--pre_size"),
    "hanet_lr": TRAINS,
    "hanet_poly_exp": OWN_RATE,
    "hanet_wd": OWN_RATE,
    "backbone_lr": TRAINS,
    "snapshot_pe": TRAINS,
    "rlx_off_iter": (_relaxes, "--jointwtborder or --lr_schedule scl-poly"),
    "scales": AVERAGES,
    "single_scale": AVERAGES,
    "no_flip": AVERAGES,
    "sliding_overlap": SLIDES,
    "sliding_official": SLIDES,
    "split_index": EVALUATES,
    "split_count": EVALUATES,
    "dump_images": EVALUATES,
    "ckpt_path": FROM_SNAPSHOT,
    "exp_name": FROM_SNAPSHOT,
}
REFUSED_TOGETHER = (
    ("adam", "sgd"),
    ("adam", "optimizer"),
    ("sgd", "optimizer"),
    ("no_pos_dataset", "aux_loss"),
    ("scf", "pre_size"),
    ("scf", "map_crop_val"),
    ("single_scale", "scales"),
    ("snapshot_pe", "snapshot"),
    ("snapshot_pe", "resume"),
    ("cls_wt_loss", "img_wt_loss"),
    ("cls_wt_loss", "jointwtborder"),
    ("cls_wt_loss", "rmi_loss"),
    ("rlx_off_iter", "rlx_off_epoch"),
    ("hanet_lr", "param_rules"),
    ("backbone_lr", "param_rules"),
)


def check_hanet(args: argparse.Namespace) -> None:
    """Raise UserError for contradictions between these flags and the others."""
    if averages(args):
        switches = ("multi_scale_inference", "do_flip", "slide_crop")
        taken = [flag for flag in switches if getattr(args, flag)]
        if args.default_scale != 1:
            taken.append("default_scale")
        for flag in taken:
            raise UserError(
                f"--{flag}: --inference_mode {args.inference_mode} has windows, --scales and "
                "the mirrored image of its own (--single_scale and --no_flip end these)"
            )
    if args.split and args.eval != SPLITS[args.split]:
        raise UserError(f"--split {args.split} and --eval {args.eval} exclude each other")
    if args.split_index >= args.split_count:
        raise UserError(
            f"--split_index {args.split_index}: 0..{args.split_count - 1} wanted, below "
            "--split_count"
        )
    if args.cls_wt_loss and args.dataset not in CITYSCAPES_CLASSES:
        raise UserError(
            f"--cls_wt_loss: its weights are for the 19 classes of Cityscapes, --dataset "
            f"{args.dataset} has others; use --img_wt_loss"
        )
