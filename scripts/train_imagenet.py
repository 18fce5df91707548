# SPDX-License-Identifier: Apache-2.0
"""The command line of the published ImageNet program, as one of `train.py` under torchrun.

    bash scripts/train_imagenet.sh 4 8 NODE_RANK --data DIR --model HRViT_b1_224 -b 32 ...

NODES, GPUS and NODE_RANK come first. Published flags are translated by the tables below, flags
of `train.py` are passed on as they are. `--dry_run` prints the command instead of starting it.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence

from config import UserError
from flags import Parser

MASTER_PORT = "29500"

# Published flag -> flag of train.py, one value each.
RENAMED = {
    "initial-checkpoint": "snapshot",
    "img-size": "img_size",
    "crop-pct": "crop_pct",
    "opt": "optimizer",
    "opt-eps": "adam_eps",
    "weight-decay": "weight_decay",
    "clip-grad": "clip_grad",
    "sched": "lr_schedule",
    "warmup-lr": "warmup_lr",
    "min-lr": "min_lr",
    "epochs": "max_epoch",
    "start-epoch": "start_epoch",
    "warmup-epochs": "warmup_epochs",
    "cooldown-epochs": "cooldown_epochs",
    "color-jitter": "color_jitter",
    "mixup-prob": "mixup_prob",
    "mixup-switch-prob": "mixup_switch_prob",
    "mixup-mode": "mixup_mode",
    "mixup-off-epoch": "mixup_off_epoch",
    "train-interpolation": "train_interpolation",
    "drop-path": "drop_path",
    "head-drop": "head_drop",
    "recovery-interval": "save_iters",
    "workers": "num_workers",
    "output": "result_dir",
}
PAIRS = {
    "scale": "scale",
    "ratio": "ratio",
    "cutmix-minmax": "cutmix_minmax",
    "opt-betas": "betas",
}
SWITCHES = {
    "amp": "fp16",
    "native-amp": "fp16",
    "sync-bn": "syncbn",
    "channels-last": "channels_last",
    "with-cp": "grad_ckpt",
}
# What train.py does anyway; accepted.
ALWAYS = ("pin-mem", "use-multi-epochs-loader", "no-prefetcher")
# What can not be had, and why or what to use.
REFUSED = {
    "config": "use a recipe, scripts/imagenet_*.yml",
    "machine-rank": "it is the third argument",
    "num-machines": "it is the first argument",
    "ngpus-per-node": "it is the second argument",
    "local_rank": "the launcher sets it",
    "no-resume-opt": "--initial-checkpoint FILE starts anew from the weights of a file",
    "in-channels": "pictures have three channels",
    "num-classes": "the folders of --data say it",
    "gp": "it never reached the model",
    "mean": "pictures are normalised with ImageNet's mean",
    "std": "pictures are normalised with ImageNet's deviation",
    "lr-noise": "--sched cosine has no noise here",
    "lr-noise-pct": "--sched cosine has no noise here",
    "lr-noise-std": "--sched cosine has no noise here",
    "lr-cycle-mul": "--sched cosine has one cycle here",
    "lr-cycle-limit": "--sched cosine has one cycle here",
    "decay-epochs": "it belongs to other schedules than cosine",
    "patience-epochs": "it belongs to other schedules than cosine",
    "decay-rate": "it belongs to other schedules than cosine",
    "no-aug": "--aa none --reprob 0 --mixup 0 --cutmix 0 leaves crops and mirroring",
    "aug-splits": "augmentation splits are not part of the recipe",
    "jsd": "augmentation splits are not part of the recipe",
    "resplit": "augmentation splits are not part of the recipe",
    "drop": "it never reached the model",
    "drop-connect": "it never reached the model; --drop-path does",
    "drop-block": "it never reached the model",
    "bn-tf": "it never reached the model",
    "bn-momentum": "it never reached the model",
    "bn-eps": "it never reached the model",
    "dist-bn": "every validation takes the statistics of the first process",
    "split-bn": "augmentation splits are not part of the recipe",
    "model-ema-force-cpu": "the average stays on the device",
    "log-interval": "lines come every few seconds",
    "num-gpu": "GPUS is the second argument",
    "save-images": "--dump_augmentation_images writes augmented pictures",
    "apex-amp": "--amp is native mixed precision",
    "eval-metric": "top-1 decides which checkpoint is best",
    "tta": "pictures are scored once",
}


def parser() -> Parser:
    """The published command line; what it does not know is left for train.py."""
    made = Parser(
        prog="train_imagenet.sh", allow_abbrev=False, usage="%(prog)s NODES GPUS NODE_RANK"
    )
    for name in ("nodes", "gpus", "node_rank"):
        made.add_argument(name, type=int)
    add = made.add_argument
    add("--dry_run", action="store_true")
    add("--data")
    add("--model", default="HRViT_b1_224")
    add("--batch-size", "-b", type=int, default=64)
    add("--validation-batch-size-multiplier", "-vb", type=int, default=1)
    add("--seed", default="42")
    add("--dist-url", default="auto")
    add("--eval_checkpoint")
    add("--model-ema", action="store_true")
    add("--model-ema-decay", default="0.99992")
    for name in RENAMED:
        add(f"--{name}", *(["-j"] if name == "workers" else []))
    for name in PAIRS:
        add(f"--{name}", nargs="+")
    for name in (*SWITCHES, *ALWAYS):
        add(f"--{name}", action="store_true")
    for name in REFUSED:
        add(f"--{name}", *(["-c"] if name == "config" else []), nargs="*")
    return made


def arch_of(model: str) -> str:
    """`HRViT_b1_224` -> `hrvit.b1_224`; names of this program stay."""
    match = re.fullmatch(r"HRViT_(b[123]_224)", model)
    return f"hrvit.{match.group(1)}" if match else model


def translated(args: argparse.Namespace) -> list[str]:
    """The flags of train.py that published ones stand for."""
    given = {name.replace("_", "-"): value for name, value in vars(args).items()}
    for name, reason in REFUSED.items():
        if given[name.replace("_", "-")] is not None:
            raise UserError(f"--{name} is not supported: {reason}")
    out = ["--task", "classify", "--dataset", "imagenet", "--arch", arch_of(args.model)]
    out += ["--bs_trn", str(args.batch_size), "--seed", args.seed]
    out += ["--bs_val", str(args.batch_size * args.validation_batch_size_multiplier)]
    if args.data:
        out += ["--set", f"DATASET.IMAGENET_DIR={args.data}"]
    if args.eval_checkpoint:
        out += ["--eval", "val", "--snapshot", args.eval_checkpoint]
    if args.model_ema:
        out += ["--ema", args.model_ema_decay]
    for name, own in RENAMED.items():
        if given[name] is not None:
            out += [f"--{own}", given[name]]
    for name, own in PAIRS.items():
        if given[name] is not None:
            out += [f"--{own}", ",".join(given[name])]
    switched = {own for name, own in SWITCHES.items() if given[name]}
    return out + [f"--{own}" for own in sorted(switched)]


def result_dir(args: argparse.Namespace) -> list[str]:
    """Equal on all machines, so that each finds the checkpoint to go on from."""
    return [] if args.output else ["--result_dir", f"output/train/{arch_of(args.model)}"]


def launcher(args: argparse.Namespace) -> list[str]:
    """torchrun's own arguments: how many processes, and where they meet."""
    if args.nodes < 1 or args.gpus < 1 or not 0 <= args.node_rank < args.nodes:
        raise UserError(
            f"NODES {args.nodes}, GPUS {args.gpus}, NODE_RANK {args.node_rank}: at least 1, at "
            "least 1, and 0 to NODES-1 wanted"
        )
    run = ["-m", "torch.distributed.run", f"--nproc_per_node={args.gpus}"]
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT", MASTER_PORT)
    match = re.fullmatch(r"tcp://([^:/]+):(\d+)", args.dist_url)
    if match:
        address, port = match.group(1), match.group(2)
    elif args.dist_url not in ("auto", "env://"):
        raise UserError(f"--dist-url {args.dist_url}: auto, env:// or tcp://HOST:PORT wanted")
    if args.nodes == 1:
        return [*run, "--standalone"]
    if not address:
        raise UserError(
            "more than one machine: name the first with MASTER_ADDR=HOST in the environment, or "
            f"--dist-url tcp://HOST:{MASTER_PORT}"
        )
    run += [f"--nnodes={args.nodes}", f"--node_rank={args.node_rank}"]
    return [*run, f"--master_addr={address}", f"--master_port={port}"]


def build_command(argv: Sequence[str] | None = None) -> tuple[list[str], bool]:
    """The arguments of `python`, and whether they are only to be shown; UserError if wrong."""
    args, passed_on = parser().parse_known_args(argv)
    own = translated(args) + ([] if "--result_dir" in passed_on else result_dir(args))
    return [*launcher(args), "train.py", *own, *passed_on], args.dry_run


def main(execute: Callable[[str, list[str]], object] = os.execv) -> int:
    """Become the launcher; exit code 2 and one line for a wrong command line."""
    try:
        command, is_dry = build_command()
    except UserError as error:
        for stream in (sys.stdout, sys.stderr):
            print(f"error: {error}", file=stream, flush=True)
        return 2
    print(shlex.join(["python", *command]), flush=True)
    if not is_dry:
        execute(sys.executable, [sys.executable, *command])
    return 0


if __name__ == "__main__":
    sys.exit(main())
