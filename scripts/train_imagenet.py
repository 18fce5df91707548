# SPDX-License-Identifier: Apache-2.0
"""The command line of the published ImageNet program, as one of `train.py` under torchrun.

    bash scripts/train_imagenet.sh 4 8 NODE_RANK --data DIR --model HRViT_b1_224 -b 32 ...

NODES, GPUS and NODE_RANK come first. Published flags are translated by the tables below, flags
of `train.py` are passed on as they are. A command line that `train.py` would refuse is refused
here, before anything starts. `--dry_run` prints the command instead of starting it.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from runtime.errors import UserError, wrong_input
from settings import Parser, build_parser, read_settings

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
# Published defaults that train.py refuses as without effect.
IDLE_DEFAULTS = {"color-jitter": "0.4"}
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
# Never had an effect, or train.py does it anyway: accepted with a line that says so.
WITHOUT_EFFECT = {
    **dict.fromkeys(("gp", "drop", "drop-block"), "it never reached the model"),
    **dict.fromkeys(("bn-tf", "bn-momentum", "bn-eps"), "it never reached the model"),
    "drop-connect": "it never reached the model; --drop-path does",
    "local_rank": "the launcher sets it",
    "pin-mem": "loaders always do what the device needs",
    "use-multi-epochs-loader": "workers always stay from epoch to epoch",
    "no-prefetcher": "there is no prefetcher",
}
# Accepted with the values that hold here anyway, the published default first; else refused: why,
# or what to use.
FIXED: dict[str, tuple[tuple[str, ...], str]] = {
    "in-channels": (("3",), "images have three channels"),
    "num-classes": (("1000",), "the folders of --data say it"),
    "mean": (("0.485 0.456 0.406",), "images are normalised with ImageNet's mean"),
    "std": (("0.229 0.224 0.225",), "images are normalised with ImageNet's deviation"),
    "lr-noise-pct": (("0.67",), "--sched cosine has no noise here"),
    "lr-noise-std": (("1",), "--sched cosine has no noise here"),
    "lr-cycle-mul": (("1",), "--sched cosine has one cycle here"),
    "lr-cycle-limit": (("1",), "--sched cosine has one cycle here"),
    "decay-epochs": (("30",), "it belongs to other schedules than cosine"),
    "patience-epochs": (("10",), "it belongs to other schedules than cosine"),
    "decay-rate": (("0.1",), "it belongs to other schedules than cosine"),
    "aug-splits": (("0",), "augmentation splits are not part of the recipe"),
    "dist-bn": (("", "broadcast"), "every validation takes the statistics of the first process"),
    "log-interval": (("50",), "lines come every few seconds"),
    "num-gpu": (("1",), "GPUS is the second argument"),
    "eval-metric": (("top1",), "top-1 decides which checkpoint is best"),
    "tta": (("0",), "images are scored once"),
}
# Accepted with the value of the positional argument that says the same.
POSITIONAL = {
    "machine-rank": ("node_rank", "it is the third argument"),
    "num-machines": ("nodes", "it is the first argument"),
    "ngpus-per-node": ("gpus", "it is the second argument"),
}
# What cannot be had, and why or what to use.
REFUSED = {
    "config": "use a recipe, scripts/imagenet_*.yml",
    "no-resume-opt": "--initial-checkpoint FILE starts anew from the weights of a file",
    "lr-noise": "--sched cosine has no noise here",
    "no-aug": "--aa none --reprob 0 --mixup 0 --cutmix 0 leaves crops and mirroring",
    "jsd": "augmentation splits are not part of the recipe",
    "resplit": "augmentation splits are not part of the recipe",
    "split-bn": "augmentation splits are not part of the recipe",
    "model-ema-force-cpu": "the average stays on the device",
    "save-images": "--dump_augmentation_images writes augmented images",
    "apex-amp": "--amp is native mixed precision",
}
MODELS = ("HRViT_b1_224", "HRViT_b2_224", "HRViT_b3_224")


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
    for name in SWITCHES:
        add(f"--{name}", action="store_true")
    for name in (*WITHOUT_EFFECT, *FIXED, *POSITIONAL, *REFUSED):
        add(f"--{name}", *(["-c"] if name == "config" else []), nargs="*")
    return made


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published command line: what is read one by one, and all values by published name."""

    nodes: int
    gpus: int
    node_rank: int
    dry_run: bool
    data: str | None
    model: str
    batch_size: int
    validation_batch_size_multiplier: int
    seed: str
    dist_url: str
    eval_checkpoint: str | None
    model_ema: bool
    model_ema_decay: str
    values: Mapping[str, Any]


def read_published(argv: Sequence[str] | None) -> tuple[Published, list[str]]:
    """The published command line, and what is left of it for train.py."""
    found, passed_on = parser().parse_known_args(argv)
    values = {name.replace("_", "-"): value for name, value in vars(found).items()}
    own = [item.name for item in fields(Published) if item.name != "values"]
    named = {name: values[name.replace("_", "-")] for name in own}
    return Published(**named, values=values), passed_on


def arch_of(model: str) -> str:
    """`HRViT_b1_224` -> `hrvit.b1_224`; names of this program stay."""
    if model.startswith("HRViT_") and model not in MODELS:
        raise UserError(f"--model {model} is none of the published {', '.join(MODELS)}")
    return model.replace("HRViT_", "hrvit.")


def _same(text: str, wanted: str) -> bool:
    """Whether two values mean the same: 0 and 0.0 do."""
    try:
        return [float(part) for part in text.split()] == [float(part) for part in wanted.split()]
    except ValueError:
        return text == wanted


def check_published(line: Published) -> list[str]:
    """One line for each flag without effect; UserError for a value that cannot be had."""
    given = {
        name: " ".join(value) if isinstance(value, list) else value
        for name, value in line.values.items()
        if value is not None
    }
    for name in sorted(given.keys() & REFUSED.keys()):
        raise UserError(f"--{name} is not supported: {REFUSED[name]}")
    fixed = dict(FIXED)
    for name, (position, reason) in POSITIONAL.items():
        fixed[name] = ((str(getattr(line, position)),), reason)
    for name in sorted(given.keys() & fixed.keys()):
        values, reason = fixed[name]
        if not any(_same(given[name], value) for value in values):
            raise UserError(f"--{name} {given[name]} is not supported: {reason}")
    ignored = [name for name in WITHOUT_EFFECT if name.replace("_", "-") in given]
    return [f"--{name} has no effect: {WITHOUT_EFFECT[name]}" for name in ignored]


def translated(line: Published) -> list[str]:
    """The flags of train.py that published ones stand for."""
    given = line.values
    out = ["--task", "classify", "--dataset", "imagenet", "--arch", arch_of(line.model)]
    out += ["--bs_trn", str(line.batch_size), "--seed", line.seed]
    out += ["--bs_val", str(line.batch_size * line.validation_batch_size_multiplier)]
    if line.data:
        out += ["--set", f"DATASET.IMAGENET_DIR={line.data}"]
    if line.eval_checkpoint:
        out += ["--eval", "val", "--snapshot", line.eval_checkpoint]
    if line.model_ema:
        out += ["--ema", line.model_ema_decay]
    for name, own in RENAMED.items():
        if given[name] and not (name in IDLE_DEFAULTS and _same(given[name], IDLE_DEFAULTS[name])):
            out += [f"--{own}", given[name]]
    for name, own in PAIRS.items():
        if given[name] is not None:
            out += [f"--{own}", ",".join(given[name])]
    switched = {own for name, own in SWITCHES.items() if given[name]}
    return out + [f"--{own}" for own in sorted(switched)]


def result_dir(line: Published) -> list[str]:
    """Equal on all machines, so that each finds the checkpoint to go on from."""
    return [] if line.values["output"] else ["--result_dir", f"output/train/{arch_of(line.model)}"]


def launcher(line: Published) -> list[str]:
    """torchrun's own arguments: how many processes, and where they meet."""
    if line.nodes < 1 or line.gpus < 1 or not 0 <= line.node_rank < line.nodes:
        raise UserError(
            f"NODES {line.nodes}, GPUS {line.gpus}, NODE_RANK {line.node_rank}: at least 1, at "
            "least 1, and 0 to NODES-1 wanted"
        )
    run = ["-m", "torch.distributed.run", f"--nproc_per_node={line.gpus}"]
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT", MASTER_PORT)
    match = re.fullmatch(r"tcp://([^:/]+):(\d+)", line.dist_url)
    if match:
        address, port = match.group(1), match.group(2)
    elif line.dist_url not in ("auto", "env://"):
        raise UserError(f"--dist-url {line.dist_url}: auto, env:// or tcp://HOST:PORT wanted")
    if line.nodes == 1:
        return [*run, "--standalone"]
    if not address:
        raise UserError(
            "more than one machine: name the first with MASTER_ADDR=HOST in the environment, or "
            f"--dist-url tcp://HOST:{MASTER_PORT}"
        )
    run += [f"--nnodes={line.nodes}", f"--node_rank={line.node_rank}"]
    return [*run, f"--master_addr={address}", f"--master_port={port}"]


class Launch(NamedTuple):
    """What to start: the arguments of `python`; `notes` are lines to show first."""

    command: list[str]
    notes: list[str]
    is_dry: bool


def check_own(argv: list[str]) -> None:
    """UserError for a command line that train.py would refuse."""
    published, known = (set(each._option_string_actions) for each in (parser(), build_parser()))
    for text in argv:
        flag, _, _ = text.partition("=")
        spelled = flag.replace("_", "-")
        if flag not in known and spelled in published:
            raise UserError(f"unknown argument {flag}; did you mean {spelled}?")
    settings = read_settings(argv)
    if settings.network.arch not in map(arch_of, MODELS):
        from assembly.network import check_arch  # takes seconds

        check_arch(settings)


def plan(argv: Sequence[str] | None = None) -> Launch:
    """What the command line asks for; UserError if it is wrong."""
    line, passed_on = read_published(argv)
    notes = check_published(line)
    own = translated(line) + ([] if "--result_dir" in passed_on else result_dir(line))
    run = launcher(line)
    check_own([*own, *passed_on])
    return Launch([*run, "train.py", *own, *passed_on], notes, line.dry_run)


def main(execute: Callable[[str, list[str]], object] = os.execv) -> int:
    """Become the launcher; exit code 2 and one line for a wrong command line."""
    try:
        launch = plan()
    except UserError as error:
        return wrong_input(error)
    for line in [*launch.notes, shlex.join(["python", *launch.command])]:
        print(line, flush=True)
    if not launch.is_dry:
        execute(sys.executable, [sys.executable, *launch.command])
    return 0


if __name__ == "__main__":
    sys.exit(main())
