# SPDX-License-Identifier: Apache-2.0
"""Flags of `--task classify`, its own defaults, and which flags belong to which task."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from config import UserError
from flags.values import fraction, listed, non_negative_int, number, rate

TASKS = ("segment", "classify")
DATASET = "imagenet"

# Flags whose default is another one with --task classify: the shared ImageNet recipe.
DEFAULTS: dict[str, object] = {
    "dataset": DATASET,
    "bs_trn": 64,
    "bs_val": 64,
    "optimizer": "adamw",
    "lr": 5e-4,
    "weight_decay": 0.05,
    "lr_schedule": "cosine",
    "max_epoch": 300,
    "min_lr": 1e-5,
}
# Groups of flags for both tasks (whether a network has an option, it says itself); of all other
# groups only these flags are not about maps of classes.
SHARED_GROUPS = ("options", "network", "optimisation", "run", "classification")
SHARED = frozenset({"dataset", "num_workers", "bs_trn", "bs_val", "dump_augmentation_images"})
SHARED |= {"eval"}
EVAL_MODES = ("val", "trn")


def add_classification(add: Callable[..., object]) -> None:
    add("--task", choices=TASKS, default="segment", help="what the network predicts")
    add("--img_size", type=number(int, 32, 4096), default=224, help="side of the square input, px")
    add(
        "--crop_pct", type=number(float, 0.1, 1), default=0.9, help="evaluation: input / short side"
    )
    add("--interpolation", choices=("bilinear", "bicubic"), default="bicubic", help="evaluation")
    add(
        "--scale",
        type=listed(float, 2, low=0, high=100),
        default=(0.08, 1.0),
        help="area of random crops",
    )
    add(
        "--ratio",
        type=listed(float, 2, low=0, high=100),
        default=(0.75, 4 / 3),
        help="width / height of them",
    )
    add("--hflip", type=fraction, default=0.5, help="probability of mirroring")
    add("--vflip", type=fraction, default=0.0, help="probability of turning upside down")
    add("--color_jitter", type=number(float, 0, 100), default=0.4, help="strength, with --aa none")
    add("--aa", default="rand-m9-mstd0.5-inc1", metavar="POLICY", help="timm policy, or none")
    interpolations = ("random", "bilinear", "bicubic")
    add("--train_interpolation", choices=interpolations, default="random", help="of random crops")
    add("--reprob", type=fraction, default=0.25, help="probability of random erasing")
    add("--remode", choices=("const", "rand", "pixel"), default="pixel", help="erased boxes get")
    add("--recount", type=number(int, 1, 1000), default=1, help="largest number of erased boxes")
    add(
        "--repeated_aug",
        type=number(int, 1, 1000),
        default=1,
        help="augmentations of a drawn image",
    )
    add("--mixup", type=rate, default=0.8, help="alpha of mixup, 0 for none")
    add("--cutmix", type=rate, default=1.0, help="alpha of cutmix, 0 for none")
    add(
        "--cutmix_minmax",
        type=listed(float, 2, low=0, high=100),
        help="side of its box, instead of alpha",
    )
    add("--mixup_prob", type=fraction, default=1.0, help="share of batches that are mixed")
    add("--mixup_switch_prob", type=fraction, default=0.5, help="share of them mixed by cutmix")
    modes = ("batch", "pair", "elem")
    add("--mixup_mode", choices=modes, default="batch", help="what shares one mixing ratio")
    add("--mixup_off_epoch", type=non_negative_int, default=0, help="epoch that ends it, 0 never")
    add("--smoothing", type=fraction, default=0.1, help="label smoothing")
    add("--train_only", metavar="TEXT,TEXT", help="train only weights whose name contains one")


def flags_by_group(parser: argparse.ArgumentParser) -> dict[str, set[str]]:
    """Names of the flags of each group, by its title."""
    return {
        str(group.title): {action.dest for action in group._group_actions}
        for group in parser._action_groups
    }


def segmentation_flags(parser: argparse.ArgumentParser) -> set[str]:
    """Names of the flags that `--task classify` does not use."""
    groups = flags_by_group(parser)
    foreign = [names for title, names in groups.items() if title not in SHARED_GROUPS]
    return set().union(*foreign) - SHARED


def apply_task(args: argparse.Namespace, given: set[str]) -> None:
    """Give flags that the user did not type the default of `--task`, in place."""
    if args.task == "classify":
        for name, value in DEFAULTS.items():
            if name not in given:
                setattr(args, name, value)


def check_task(args: argparse.Namespace, given: set[str], parser: argparse.ArgumentParser) -> None:
    """Raise UserError for a flag of the other task, and for settings that do not fit together."""
    if args.task == "segment":
        own = flags_by_group(parser)["classification"] - {"task"}
        for name in sorted(own & given):
            raise UserError(f"--{name} belongs to classification: it needs --task classify")
        if args.dataset == DATASET:
            raise UserError(f"--dataset {DATASET} has no label maps: it needs --task classify")
        return
    for name in sorted(segmentation_flags(parser) & given):
        raise UserError(f"--{name} belongs to segmentation: --task classify does not use it")
    if args.dataset != DATASET:
        raise UserError(f"--task classify reads --dataset {DATASET}, not {args.dataset}")
    if args.eval is not None and args.eval not in EVAL_MODES:
        raise UserError(f"--task classify: --eval {' or '.join(EVAL_MODES)}, not {args.eval}")
    _check_values(args, given)


def _mixes(args: argparse.Namespace) -> bool:
    return bool(args.mixup or args.cutmix or args.cutmix_minmax)


def _check_values(args: argparse.Namespace, given: set[str]) -> None:
    for name in ("scale", "ratio", "cutmix_minmax"):
        pair = getattr(args, name)
        if pair is not None and not 0 < pair[0] <= pair[1]:
            raise UserError(f"--{name} {pair[0]:g},{pair[1]:g}: SMALLEST,LARGEST above 0 wanted")
    for name in ("scale", "cutmix_minmax"):
        pair = getattr(args, name)
        if pair is not None and pair[1] > 1:
            raise UserError(f"--{name} {pair[0]:g},{pair[1]:g}: a share of at most 1 wanted")
    if "color_jitter" in given and args.aa != "none" and args.color_jitter:
        raise UserError("--color_jitter has no effect under a policy: add --aa none")
    for name in ("remode", "recount"):
        if name in given and not args.reprob:
            raise UserError(f"--{name} has no effect without --reprob above 0")
    for name in ("mixup_prob", "mixup_switch_prob", "mixup_mode", "mixup_off_epoch"):
        if name in given and not _mixes(args):
            raise UserError(f"--{name} has no effect without --mixup or --cutmix above 0")
    is_training = args.eval is None
    if is_training and _mixes(args) and args.bs_trn % 2:
        raise UserError(
            f"--bs_trn {args.bs_trn}: mixup and cutmix pair the images of a batch; take an even "
            "number, or switch both off (--mixup 0 --cutmix 0)"
        )
