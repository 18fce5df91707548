# SPDX-License-Identifier: Apache-2.0
"""The whole parser, and the way from a command line to checked flags and a frozen `cfg`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from config import Config, UserError, cfg, configure, near, wrong_input
from flags import classification, data, evaluation, hanet, network, training
from flags.from_run import adopt_run
from flags.rules import can_go_by_iteration, check_flags, check_settings, reads_extras
from flags.values import Parser, number
from flags.workers import check_workers
from runtime import streams

# Accepted for old command lines; the replacement is named in one warning line.
WITHOUT_EFFECT = {
    "dataset_inst": "--dataset",
    "freeze_trunk": "a smaller --lr",
    "hardnm": "--img_wt_loss",
    "trunk": "--arch, whose name says the trunk",
    "brt_aug": "--color_aug",
    "dataset_cls": "--dataset",
    "dataset_dir": "DATASET keys, see docs/datasets.md",
    "profile": "nothing",
    "dist_bn": "--syncbn",
    "mode": "--eval train_extra for the coarse set",
    "cv_split": "--cv",
    "tb_tag": "--result_dir",
    "ocr_aspp": "--arch basic.HRNet_ASP",
    "trial": "--result_dir",
    "mscale_init": "nothing",
    "mscale_cat_scale_flt": "nothing",
    "three_scale": "--n_scales 0.5,1.0,2.0",
    "alt_two_scale": "--n_scales 0.5,1.0",
}
# Machinery that is gone: what native torch does instead.
REPLACED = {
    "dist_url": "the launcher's address is used",
    "tb_path": "TensorBoard files lie in the run directory",
    "apex": "native DistributedDataParallel and autocast are used",
    "amp_opt_level": "O0 is --precision fp32, O1 and O2 are fp16 autocast, O3 is bf16/fp16 as set",
    "efficient_test": "every evaluation streams: at most two full-size score maps, nothing stored",
}

DESCRIPTION = "The command line of `train.py` and `eval.py`: every flag with type, range and help. "
DESCRIPTION += "`--bs-trn` is the same as `--bs_trn`."

GROUPS: dict[str, Callable[[Callable[..., object]], None]] = {
    "network": network.add_network,
    "height attention": network.add_height_attention,
    "data": data.add_data,
    "augmentation": data.add_augmentation,
    "loss": training.add_loss,
    "optimisation": training.add_optimisation,
    "run": training.add_run,
    "evaluation": evaluation.add_evaluation,
    "classification": classification.add_classification,
    "HANet training": hanet.add_hanet_training,
    "HANet evaluation": hanet.add_hanet_evaluation,
}


def build_parser(prog: str = "train.py") -> Parser:
    """The parser, one group of flags a concern; flags without effect are hidden from help."""
    parser = Parser(prog=prog, allow_abbrev=False, description=DESCRIPTION)
    for title, fill in GROUPS.items():
        fill(parser.add_argument_group(title).add_argument)
    for name in WITHOUT_EFFECT:
        parser.add_argument(f"--{name}", nargs="?", const=True, help=argparse.SUPPRESS)
    parser.add_argument("--init_decoder", action="store_true", help=argparse.SUPPRESS)
    return parser


def _flag_names(parser: argparse.ArgumentParser) -> list[str]:
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    return [option for action in shown for option in action.option_strings]


def _given(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> set[str]:
    """Names of the flags that stand on the command line."""
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    return set(vars(parser.parse_args(argv)))


def _apply_aliases(args: argparse.Namespace, given: set[str]) -> None:
    """Old spellings of the same setting; what was mapped is kept in `args.notes`."""
    notes = [
        f"--{name} never had an effect and is ignored; use {WITHOUT_EFFECT[name]}"
        for name in sorted(given & WITHOUT_EFFECT.keys())
    ]
    notes += [f"--{name}: {REPLACED[name]}" for name in sorted(given & REPLACED.keys())]
    half = args.amp_opt_level in ("O1", "O2", "O3") and "precision" not in given
    if args.fp16 or half:
        args.precision = "fp16"
    if "gblur" in given and "bblur" in given:
        notes.append("--bblur wins over --gblur")
    if args.eval_f1_start >= 0:
        notes.append(_published_slice(args, given))
    hanet.apply_hanet_aliases(args, given, notes)
    if args.local_rank is None:
        args.local_rank = _launched_as()
    if args.lr_by is None:
        by_iteration = args.max_iter is not None and can_go_by_iteration(args)
        args.lr_by = "iter" if by_iteration else "epoch"
        if by_iteration and not args.eval:
            notes.append("--max_iter: the learning rate goes by iteration, as with --lr_by iter")
    if args.test_mode:
        args.max_epoch, args.max_iter = 2, None
        args.val_iters = None
    if args.slide_crop and args.dump_assets:
        notes.append("--slide_crop: attention and single-scale maps are not dumped, windows differ")
    args.notes = notes


def _launched_as() -> int:
    """LOCAL_RANK as launchers set it, 0 without; UserError for anything but such a number."""
    text = os.environ.get("LOCAL_RANK", "0")
    try:
        return int(number(int, 0, training.MAX_PROCESSES)(text))
    except argparse.ArgumentTypeError as error:
        raise UserError(
            f"environment LOCAL_RANK: {error}; launchers set it, unset it without one"
        ) from None


def _published_slice(args: argparse.Namespace, given: set[str]) -> str:
    """What `--eval_f1_start` switches on in HILA's tester, in place; says what it does."""
    args.eval_f1 = args.eval_f1 or not args.mod_f1
    if "eval_f1_th" not in given:
        args.eval_f1_th = (evaluation.HILA_THRESHOLD,)
    return (
        "--eval_f1_start is not needed for memory, images stream; the sums in results.json of "
        "several slices add up"
    )


def read_flags(
    argv: Sequence[str] | None = None, prog: str = "train.py", eval_default: str | None = None
) -> tuple[argparse.Namespace, set[str]]:
    """Typed flags and the names of those that stand on the command line."""
    parser = build_parser(prog)
    names = _flag_names(parser)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        flag = unknown[0].split("=")[0]
        alike = near("--" + flag.lstrip("-").replace("-", "_"), names, cutoff=0.76)
        raise UserError(f"unknown argument {unknown[0]}{alike}")
    given = _given(build_parser(prog), argv)
    if args.eval is None:
        args.eval = eval_default
    return args, given


def resolve(args: argparse.Namespace, given: set[str], target: Config) -> None:
    """Map old spellings, fill and freeze `target`, refuse settings without effect, in place."""
    if args.from_run:
        args.from_run = os.path.expanduser(args.from_run)
        adopt_run(args, given)
    classification.apply_task(args, given)
    _apply_aliases(args, given)
    if args.dt_offset_wt > 0 and not args.eval:
        args.set = [*(args.set or []), "MODEL.boundary_heads=true"]
    configure(args, given, target)
    if not _file_names_task(args, given):
        classification.check_task(args, given, build_parser())
    check_flags(args, given)
    args.notes += hanet.drop_own_rate(args)
    if "max_cu_epoch" in given and not args.eval and not reads_extras(args):
        args.notes.append("--max_cu_epoch: there are no extra images whose draws it could end")
    check_settings(args, target)
    check_workers(args.num_workers)
    args.given = sorted(given)
    args.result_dir = os.path.abspath(target.expand(args.result_dir))
    for name in ("snapshot", "snapshot_pe", "eval_folder", "pretrained", "resume"):
        value = getattr(args, name)
        if value:
            setattr(args, name, target.expand(value))


def _file_names_task(args: argparse.Namespace, given: set[str]) -> bool:
    """Whether this is an evaluation whose checkpoint may know its task: see `adopt_task`."""
    return bool(args.eval and args.snapshot and not args.from_run and "task" not in given)


def adopt_task(args: argparse.Namespace, task: str | None) -> None:
    """Make parsed flags those of `task`, as a checkpoint tells it, None for one that does not.

    Nothing happens where `--task` or `--from_run` decide. UserError for flags of the other task.
    """
    given = set(args.given)
    if not _file_names_task(args, given):
        return
    args.task = task or args.task
    classification.apply_task(args, given)
    classification.check_task(args, given, build_parser())


def parse_args(
    argv: Sequence[str] | None = None, prog: str = "train.py", eval_default: str | None = None
) -> argparse.Namespace:
    """Typed flags of `argv` (default: the command line); fills and freezes `config.cfg`.

    Besides the flags the result holds `given` (names the user typed) and `notes` (lines to log).
    Raises UserError for anything wrong; `--help` prints and exits as usual.
    """
    args, given = read_flags(argv, prog, eval_default)
    resolve(args, given, cfg)
    return args


def parse_or_exit(prog: str = "train.py", eval_default: str | None = None) -> argparse.Namespace:
    """`parse_args` of the command line; a wrong one ends the program before torch is imported."""
    streams.tolerate()
    try:
        return parse_args(None, prog, eval_default)
    except UserError as error:
        sys.exit(wrong_input(error))
