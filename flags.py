# SPDX-License-Identifier: Apache-2.0
"""The command line of `train.py` and `eval.py`: every flag with type, range and help.

`parse_args` delivers typed values (`--crop_size 896` is `(896, 896)`, `--n_scales 0.5,1.0` a
tuple of floats), refuses settings that could have no effect, fills `config.cfg` and freezes it.
Imports neither torch nor NumPy, so `--help` and a wrong flag answer at once.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from config import DATASETS, Config, UserError, adopt_run, cfg, configure, near
from flag_rules import check_flags

PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
EVAL_MODES = ("val", "trn", "folder", "test", "train_extra")

# Accepted for old command lines; the replacement is named in one warning line.
WITHOUT_EFFECT = {
    "dataset_inst": "--dataset",
    "freeze_trunk": "a smaller --lr",
    "hardnm": "--img_wt_loss",
    "trunk": "--arch, whose name says the trunk",
    "brt_aug": "--color_aug",
    "exp": "--result_dir",
    "maxSkip": "--dataset cityscapes with --cv",
    "scf": "nothing",
    "ocr_aspp": "--arch basic.HRNet_ASP",
    "trial": "--result_dir",
    "mscale_init": "nothing",
    "mscale_cat_scale_flt": "nothing",
    "three_scale": "--n_scales 0.5,1.0,2.0",
    "alt_two_scale": "--n_scales 0.5,1.0",
}
# Machinery that is gone: what native torch does instead.
REPLACED = {
    "apex": "native DistributedDataParallel and autocast are used",
    "amp_opt_level": "O0 is --precision fp32, O1 and O2 are fp16 autocast, O3 is bf16/fp16 as set",
}


class Parser(argparse.ArgumentParser):
    """argparse whose errors are `UserError`s that name the nearest flag."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def _number(kind: type, low: float, high: float, open_low: bool = False) -> Callable[[str], float]:
    """A converter with a range, inclusive unless `open_low`."""

    def convert(text: str) -> float:
        try:
            value: float = kind(text)
        except ValueError:
            name = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{text} is not a {name}") from None
        inside = low < value <= high if open_low else low <= value <= high
        if not inside:
            bounds = f"{'above' if open_low else 'at least'} {low:g}"
            bounds += "" if math.isinf(high) else f" and at most {high:g}"
            raise argparse.ArgumentTypeError(f"{text} must be {bounds}")
        return value

    return convert


def _listed(
    kind: type, count: int | None = None, low: float = -math.inf
) -> Callable[[str], tuple[float, ...]]:
    """A converter of comma-separated values from `low` on, exactly `count` of them when given."""

    def convert(text: str) -> tuple[float, ...]:
        try:
            values = tuple(kind(part) for part in text.split(",") if part.strip())
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text} is not a comma list of numbers") from None
        if not values or (count is not None and len(values) != count):
            wanted = "at least one value" if count is None else f"{count} values"
            raise argparse.ArgumentTypeError(f"{text}: {wanted} wanted")
        if min(values) < low:
            raise argparse.ArgumentTypeError(f"{text}: {min(values)} is below {low:g}")
        return values

    return convert


def _crop_size(text: str) -> tuple[int, int]:
    """`896` or `1024,2048` (height, width) in pixels."""
    try:
        parts = [int(part) for part in text.split(",")]
    except ValueError:
        parts = []
    if len(parts) not in (1, 2) or any(part < 32 for part in parts):
        raise argparse.ArgumentTypeError(f"{text}: N or HEIGHT,WIDTH of at least 32 pixels wanted")
    return parts[0], parts[-1]


positive_int = _number(int, 1, math.inf)
non_negative_int = _number(int, 0, math.inf)
non_negative = _number(float, 0, math.inf)
positive = _number(float, 0, math.inf, open_low=True)
fraction = _number(float, 0, 1)


def _add_network(add: Callable[..., object]) -> None:
    add("--arch", default="ocrnet.HRNet_Mscale", help="network, module.Function; `help` lists all")
    add("--n_scales", type=_listed(float), help="scales of in-network inference, e.g. 0.5,1.0,2.0")
    add("--mscale_lo_scale", type=float, default=0.5, help="low scale of the training pair")
    add("--align_corners", action="store_true", help="align corners in every bilinear resize")
    add("--segattn_bot_ch", type=positive_int, default=256, help="width of attention/seg heads")
    add("--aspp_bot_ch", type=positive_int, default=256, help="width of the ASPP bottleneck")
    add("--mscale_dropout", action="store_true", help="dropout in the attention head")
    add("--mscale_no3x3", action="store_true", help="attention head without its second 3x3")
    add("--mscale_old_arch", action="store_true", help="attention head with zero start, old keys")
    add("--attnscale_bn_head", action="store_true", help="batch norm in the attnscale head")
    add("--pretrained", default="", metavar="FILE", help="ImageNet weights of the trunk")
    add("--snapshot", metavar="FILE", help="load the weights of a checkpoint, any known layout")
    add("--allow_partial", default="", metavar="P,P", help="key prefixes that may not fit")
    add("--from_run", metavar="DIR", help="network and evaluation settings of DIR/run.json")


def _add_data(add: Callable[..., object]) -> None:
    add("--dataset", default="cityscapes", choices=DATASETS, help="which data set")
    add("--set_cityscapes_root", default="", metavar="DIR", help="same as DATASET.CITYSCAPES_DIR")
    add("--cv", type=_number(int, 0, 21), default=0, help="cross-validation fold of Cityscapes")
    add("--num_workers", type=non_negative_int, default=4, help="loader processes a rank; val half")
    add("--class_uniform_pct", type=fraction, default=0.5, help="share of class-uniform crops")
    add("--class_uniform_tile", type=positive_int, default=1024, help="tile side of centroids, px")
    add(
        "--coarse_boost_classes",
        type=_listed(int, low=0),
        help="trainIds drawn from coarse images too",
    )
    add(
        "--custom_coarse_dropout_classes", type=_listed(int, low=0), help="auto-label union classes"
    )
    add("--custom_coarse_prob", type=fraction, help="auto-label probability threshold")
    add("--mask_out_cityscapes", action="store_true", help="void border of auto-labelled images")
    add("--only_coarse", action="store_true", help="class-uniform draws from coarse images only")
    add("--max_cu_epoch", type=non_negative_int, default=150, help="coarse boost ends here")
    add("--bs_trn", type=positive_int, default=2, help="training images a process and step")
    add("--bs_val", type=positive_int, default=1, help="validation images a process and step")


def _add_augmentation(add: Callable[..., object]) -> None:
    add("--crop_size", type=_crop_size, default=(896, 896), help="training crop, N or H,W pixels")
    add("--scale_min", type=positive, default=0.5, help="smallest random scale")
    add("--scale_max", type=positive, default=2.0, help="largest random scale")
    add("--pre_size", type=positive_int, help="long edge before the random scale, px")
    add("--color_aug", type=fraction, default=0.25, help="colour jitter strength, 0 disables")
    add("--gblur", action="store_true", help="gaussian blur")
    add("--bblur", action="store_true", help="bilateral blur (wins over --gblur)")
    add("--rand_augment", type=_listed(int, 2), help="RandAugment N,M")
    add("--full_crop_training", action="store_true", help="crop size is the image size")
    add("--translate_aug_fix", action="store_true", help="small images slide inside the crop")
    add("--map_crop_val", action="store_true", help="validation: square of side --pre_size")
    add("--dump_augmentation_images", action="store_true", help="write augmented images, stop")


def _add_loss(add: Callable[..., object]) -> None:
    add("--rmi_loss", action="store_true", help="region mutual information; may be negative")
    add("--img_wt_loss", action="store_true", help="class-weighted cross entropy a batch")
    add("--batch_weighting", action="store_true", help="weights over the batch (--img_wt_loss)")
    add("--jointwtborder", action="store_true", help="boundary label relaxation")
    add("--strict_bdr_cls", type=_listed(int, low=0), help="classes without relaxation")
    add("--rlx_off_epoch", type=int, default=-1, help="epoch that ends the relaxation, -1 never")
    add("--wt_bound", "-wb", type=non_negative, default=1.0, help="bound of the class weights")
    add("--ocr_alpha", type=non_negative, default=0.4, help="weight of the auxiliary OCR loss")
    add("--ocr_aux_loss_rmi", action="store_true", help="RMI for the auxiliary prediction too")
    add(
        "--supervised_mscale_loss_wt",
        type=non_negative,
        default=0.0,
        help="weight of the loss on each single scale",
    )


def _add_optimisation(add: Callable[..., object]) -> None:
    add("--lr", type=positive, default=0.002, help="base learning rate")
    add("--optimizer", default="sgd", choices=("sgd", "adam", "radam", "adamw"), help="optimiser")
    add("--momentum", type=fraction, default=0.9, help="SGD momentum")
    add("--weight_decay", type=non_negative, default=1e-4, help="weight decay")
    add("--amsgrad", action="store_true", help="AMSGrad variant of adam and adamw")
    add("--lr_schedule", default="poly", choices=("poly", "poly2", "scl-poly"), help="schedule")
    add("--poly_exp", type=positive, default=1.0, help="exponent of the poly schedule")
    add("--poly_step", type=positive_int, default=110, help="poly2: epoch that doubles it")
    add("--rescale", type=positive, default=1.0, help="scl-poly: factor after --rlx_off_epoch")
    add("--repoly", type=positive, default=1.5, help="scl-poly: exponent after --rlx_off_epoch")
    add("--lr_by", default="epoch", choices=("epoch", "iter"), help="when the schedule steps")
    add("--warmup_iters", type=non_negative_int, default=0, help="linear warm-up, iterations")
    add("--max_epoch", type=positive_int, default=180, help="training length in epochs")
    add("--max_iter", type=positive_int, help="training length in iterations instead")
    add("--accum_steps", type=positive_int, default=1, help="batches added up before a step")
    add("--clip_grad", type=positive, help="largest norm of the gradient")
    add("--ema", type=_number(float, 0, 0.999999), help="decay of the weight average, evaluated")
    add("--syncbn", action="store_true", help="synchronised batch norm; plain with one CUDA rank")


def _add_run(add: Callable[..., object]) -> None:
    add("--result_dir", default="./logs", metavar="DIR", help="run directory")
    add("--resume", metavar="FILE|auto", help="go on exactly where a checkpoint was written")
    add("--restore_optimizer", action="store_true", help="with --snapshot: its optimiser too")
    add("--restore_net", action="store_true", help="with --snapshot: its weights (the default)")
    add("--start_epoch", type=non_negative_int, default=0, help="first epoch without --resume")
    add("--val_freq", type=positive_int, default=1, help="epochs between validations")
    add("--save_iters", type=non_negative_int, default=0, help="also save every N iterations")
    add("--seed", type=non_negative_int, default=0, help="seed of every random draw")
    add("--deterministic", action="store_true", help="deterministic kernels, slower on CUDA")
    add("--precision", choices=PRECISIONS, default="fp32", help="arithmetic of the network")
    add("--fp16", action="store_true", help="same as --precision fp16 (bf16 on a CPU)")
    add("--apex", action="store_true", help="accepted: native torch does its work")
    add("--amp_opt_level", choices=("O0", "O1", "O2", "O3"), help="accepted: see --precision")
    add("--compile", action="store_true", help="torch.compile the network")
    add("--grad_ckpt", action="store_true", help="less memory, recompute the trunk backward")
    add("--channels_last", action="store_true", help="channels-last memory format")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")
    add("--local_rank", "--local-rank", type=int, help="set by the launcher")
    add("--global_rank", type=int, help="accepted: the launcher's RANK is used")
    add("--test_mode", action="store_true", help="2 epochs of 11 steps, 7 images: a quick check")
    add("--summary", action="store_true", help="print the parameters of each part and stop")
    add("--no_progress", action="store_true", help="no progress bar")
    add("--set", action="append", metavar="KEY=VALUE", help="any key of the configuration tree")


def _add_evaluation(add: Callable[..., object]) -> None:
    add("--eval", choices=EVAL_MODES, help="evaluate instead of training")
    add("--eval_folder", metavar="DIR", help="images for --eval folder")
    add("--do_flip", action="store_true", help="average with the mirrored image")
    add("--multi_scale_inference", action="store_true", help="average over --extra_scales")
    add("--extra_scales", type=_listed(float), default=(0.5, 2.0), help="scales to average")
    add("--default_scale", type=positive, default=1.0, help="first scale of the average")
    add("--log_msinf_to_tb", action="store_true", help="its scores and previews to TensorBoard")
    add("--no_metrics", action="store_true", help="dump only, read no label")
    add("--dump_assets", action="store_true", help="write attention, confidence and error maps")
    add("--dump_all_images", action="store_true", help="write every image, not every tenth part")
    add("--eval_f1", action="store_true", help="boundary F-score of every class too")
    add("--eval_f1_th", type=positive, default=0.008, help="its tolerance: px, or share if < 1")
    add("--dump_topn", type=non_negative_int, default=0, help="pictures of N worst images a class")
    add("--dump_topn_all", action="store_true", help="with attention and single-scale maps")
    add("--dump_for_submission", action="store_true", help="raw ids, checked and zipped")
    add("--dump_for_auto_labelling", action="store_true", help="raw ids and probabilities")


GROUPS: dict[str, Callable[[Callable[..., object]], None]] = {
    "network": _add_network,
    "data": _add_data,
    "augmentation": _add_augmentation,
    "loss": _add_loss,
    "optimisation": _add_optimisation,
    "run": _add_run,
    "evaluation": _add_evaluation,
}


def build_parser(prog: str = "train.py") -> Parser:
    """The parser, one group of flags a concern; flags without effect are hidden from help."""
    parser = Parser(prog=prog, allow_abbrev=False, description=__doc__.split("\n", 1)[0])
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
    if args.local_rank is None:
        args.local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if args.test_mode:
        args.max_epoch, args.max_iter = 2, None
    args.notes = notes


def read_flags(
    argv: Sequence[str] | None = None, prog: str = "train.py", eval_default: str | None = None
) -> tuple[argparse.Namespace, set[str]]:
    """Typed flags and the names of those that stand on the command line."""
    parser = build_parser(prog)
    names = _flag_names(parser)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        flag = unknown[0].split("=")[0]
        raise UserError(f"unknown argument {unknown[0]}{near(flag, names)}")
    given = _given(build_parser(prog), argv)
    if args.eval is None:
        args.eval = eval_default
    return args, given


def resolve(args: argparse.Namespace, given: set[str], target: Config) -> None:
    """Map old spellings, fill and freeze `target`, refuse settings without effect, in place."""
    _apply_aliases(args, given)
    if args.from_run:
        adopt_run(args, given)
    configure(args, given, target)
    check_flags(args, given)
    args.given = sorted(given)
    args.result_dir = os.path.abspath(target.expand(args.result_dir))
    for name in ("snapshot", "eval_folder", "pretrained"):
        value = getattr(args, name)
        if value:
            setattr(args, name, target.expand(value))


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
    try:
        return parse_args(None, prog, eval_default)
    except UserError as error:
        for stream in (sys.stdout, sys.stderr):
            print(f"error: {error}", file=stream, flush=True)
        sys.exit(2)
