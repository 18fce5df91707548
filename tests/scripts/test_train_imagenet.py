# SPDX-License-Identifier: Apache-2.0
"""The published command line of ImageNet training, as flags of train.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import flags
from config import Config, UserError
from scripts.train_imagenet import PAIRS, REFUSED, RENAMED, SWITCHES, build_command
from tests.program import ROOT, environment

PUBLISHED = [
    "--data",
    "/data/imagenet",
    "--model",
    "HRViT_b1_224",
    "-b",
    "32",
    "--lr",
    "1e-3",
    "--weight-decay",
    ".05",
    "--amp",
    "--img-size",
    "224",
    "--warmup-epochs",
    "20",
    "--drop-path",
    "0.1",
    "--head-drop",
    "0.1",
    "--clip-grad",
    "1",
    "--sync-bn",
]


def parsed(command: list[str]):
    """The flags that train.py gets, through its own parser."""
    args, given = flags.read_flags(command[command.index("train.py") + 1 :])
    target = Config()
    flags.resolve(args, given, target)
    return args, target


def test_default_command_line_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "first")
    command, is_dry = build_command(["4", "8", "3", *PUBLISHED])
    assert command[: command.index("train.py")] == [
        "-m", "torch.distributed.run", "--nproc_per_node=8", "--nnodes=4", "--node_rank=3",
        "--master_addr=first", "--master_port=29500",
    ]  # fmt: skip
    args, tree = parsed(command)
    got = {name: getattr(args, name) for name in (
        "task", "dataset", "arch", "bs_trn", "lr", "weight_decay", "precision", "img_size",
        "warmup_epochs", "drop_path", "head_drop", "clip_grad", "syncbn", "seed", "max_epoch",
        "optimizer", "lr_schedule", "mixup", "cutmix", "smoothing",
    )}  # fmt: skip
    assert got == {
        "task": "classify", "dataset": "imagenet", "arch": "hrvit.b1_224", "bs_trn": 32,
        "lr": 1e-3, "weight_decay": 0.05, "precision": "fp16", "img_size": 224,
        "warmup_epochs": 20, "drop_path": 0.1, "head_drop": 0.1, "clip_grad": 1.0, "syncbn": True,
        "seed": 42, "max_epoch": 300, "optimizer": "adamw", "lr_schedule": "cosine", "mixup": 0.8,
        "cutmix": 1.0, "smoothing": 0.1,
    }  # fmt: skip
    assert tree.DATASET.IMAGENET_DIR == "/data/imagenet"
    assert args.result_dir.endswith("output/train/hrvit.b1_224")
    assert not is_dry


def test_one_machine_finds_itself() -> None:
    command, _ = build_command(["1", "2", "0", "--data", "D"])
    assert command[:4] == ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]


def test_every_translated_flag_is_one_of_train_py(monkeypatch: pytest.MonkeyPatch) -> None:
    known = set(flags.build_parser()._option_string_actions)
    assert {f"--{name}" for table in (RENAMED, PAIRS, SWITCHES) for name in table.values()} <= known


def test_values_of_two_numbers_switches_and_own_flags() -> None:
    argv = "--data D --scale 0.2 1 --model-ema --vb 3 --with-cp -j 3 --mixup 0.5 --resume auto"
    argv = argv.replace("--vb", "-vb").split()
    args, _ = parsed(build_command(["1", "1", "0", *argv])[0])
    assert (args.scale, args.ema, args.bs_val, args.grad_ckpt) == ((0.2, 1.0), 0.99992, 192, True)
    assert (args.num_workers, args.mixup, args.resume) == (3, 0.5, "auto")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["4", "8", "0"], "MASTER_ADDR=HOST"),
        (["2", "8", "2"], "NODE_RANK 2"),
        (["1", "8", "0", "--dist-url", "here"], "--dist-url here: .*tcp://HOST:PORT"),
        (["1", "8", "0", "--num-classes", "10"], "--num-classes is not supported: the folders"),
        (["1", "8", "0", "--gp", "avg"], "--gp is not supported: it never reached the model"),
        (["1", "8"], "node_rank"),
        (["one", "8", "0"], "invalid int"),
    ],
)
def test_what_can_not_be_had_is_one_line(
    argv: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UserError, match=message) as error:
        build_command(argv)
    assert "\n" not in str(error.value)


def test_refused_flags_name_a_reason() -> None:
    assert all(REFUSED.values())


def test_the_shell_script_shows_the_command() -> None:
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["sh", str(ROOT / "scripts" / "train_imagenet.sh"), "2", "8", "1", *PUBLISHED]
        + ["--dist-url", "tcp://first:1234", "--dry_run"],
        cwd="/", env=environment(PATH=path), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--master_addr=first --master_port=1234 train.py --task classify" in done.stdout
