# SPDX-License-Identifier: Apache-2.0
"""The published command line of ImageNet training, as flags of train.py."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from config import UserError
from scripts.train_imagenet import FIXED, PAIRS, REFUSED, RENAMED, SWITCHES, WITHOUT_EFFECT, plan
from settings import Settings, build_parser, flag_values, read_settings
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


def parsed(command: list[str]) -> Settings:
    """The settings that train.py gets, through its own parser."""
    return read_settings(command[command.index("train.py") + 1 :])


def test_default_command_line_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "first")
    command, notes, is_dry = plan(["4", "8", "3", *PUBLISHED])
    assert command[: command.index("train.py")] == [
        "-m", "torch.distributed.run", "--nproc_per_node=8", "--nnodes=4", "--node_rank=3",
        "--master_addr=first", "--master_port=29500",
    ]  # fmt: skip
    told = parsed(command)
    got = {name: flag_values(told)[name] for name in (
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
    assert told.DATASET.IMAGENET_DIR == "/data/imagenet"
    assert told.run.result_dir.endswith("output/train/hrvit.b1_224")
    assert not is_dry and not notes


def test_one_machine_finds_itself() -> None:
    command = plan(["1", "2", "0", "--data", "D"]).command
    assert command[:4] == ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]


def test_every_translated_flag_is_one_of_train_py(monkeypatch: pytest.MonkeyPatch) -> None:
    known = set(build_parser()._option_string_actions)
    assert {f"--{name}" for table in (RENAMED, PAIRS, SWITCHES) for name in table.values()} <= known


def test_values_of_two_numbers_switches_and_own_flags() -> None:
    argv = "--data D --scale 0.2 1 --model-ema --vb 3 --with-cp -j 3 --mixup 0.5 --resume auto"
    argv = argv.replace("--vb", "-vb").split()
    told = parsed(plan(["1", "1", "0", *argv]).command)
    assert (told.classification.scale, told.optimiser.ema) == ((0.2, 1.0), 0.99992)
    assert (told.data.bs_val, told.MODEL.grad_ckpt) == (192, True)
    assert (told.data.num_workers, told.classification.mixup, told.run.resume) == (3, 0.5, "auto")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["4", "8", "0"], "MASTER_ADDR=HOST"),
        (["2", "8", "2"], "NODE_RANK 2"),
        (["1", "8", "0", "--dist-url", "here"], "--dist-url here: .*tcp://HOST:PORT"),
        (["1", "8", "0", "--num-classes", "10"], "--num-classes 10 is not supported: the folders"),
        (["1", "8", "0", "--dist-bn", "reduce"], "--dist-bn reduce is not supported: every valid"),
        (["1", "8", "0", "--machine-rank", "1"], "--machine-rank 1 is .*: it is the third arg"),
        (["1", "8", "0", "--split-bn"], "--split-bn is not supported: augmentation splits"),
        (["1", "8", "0", "--model", "HRViT_b4_224"], "HRViT_b1_224, HRViT_b2_224, HRViT_b3_224"),
        (["1", "8", "0", "--model", "resnet50"], "--arch resnet50 is no architecture"),
        (["1", "8", "0", "--model", "segformer.B0"], "did you mean segformer.B0_224"),
        (["1", "8", "0", "--batch_size", "32"], "--batch_size; did you mean --batch-size?"),
        (["1", "8", "0", "--no-such", "3"], "^unknown argument --no-such$"),
        (["1", "8", "0", "-b", "31"], "--bs_trn 31: mixup and cutmix pair"),
        (["1", "8"], "node_rank"),
        (["one", "8", "0"], "invalid int"),
    ],
)
def test_what_can_not_be_had_is_one_line(
    argv: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UserError, match=message) as error:
        plan(argv)
    assert "\n" not in str(error.value)


PUBLISHED_DEFAULTS = shlex.split("""
    --machine-rank 0 --num-machines 1 --ngpus-per-node 8 --dist-url auto --local_rank 0 --data D
    --model HRViT_b1_224 --initial-checkpoint= --resume= --eval_checkpoint= --in-channels 3
    --num-classes 1000 --img-size 224 -b 64 -vb 1 --opt adamw --momentum 0.9 --weight-decay 0.05
    --sched cosine --lr 5e-4 --lr-noise-pct 0.67 --lr-noise-std 1.0 --lr-cycle-mul 1.0
    --lr-cycle-limit 1 --warmup-lr 1e-6 --min-lr 1e-5 --epochs 300 --decay-epochs 30
    --warmup-epochs 20 --cooldown-epochs 10 --patience-epochs 10 --decay-rate 0.1 --scale 0.08 1.0
    --ratio 0.75 1.3333 --hflip 0.5 --vflip 0 --color-jitter 0.4 --aa rand-m9-mstd0.5-inc1
    --aug-splits 0 --reprob 0.25 --remode pixel --recount 1 --mixup 0.8 --cutmix 1.0 --mixup-prob 1
    --mixup-switch-prob 0.5 --mixup-mode batch --mixup-off-epoch 0 --smoothing 0.1
    --train-interpolation random --drop 0.0 --drop-path 0.1 --head-drop 0.1 --dist-bn=
    --model-ema-decay 0.99992 --seed 42 --log-interval 50 --recovery-interval 0 -j 8 --num-gpu 1
    --output= --eval-metric top1 --tta 0
""")


def test_published_flags_at_their_defaults_change_nothing() -> None:
    command, notes, _ = plan(["1", "8", "0", *PUBLISHED_DEFAULTS])
    told = parsed(command)
    bare = parsed(plan(["1", "8", "0", "--data", "D"]).command)
    assert [line.split()[0] for line in notes] == ["--drop", "--local_rank"]
    spelled = {"ratio", "warmup_epochs", "cooldown_epochs", "drop_path", "head_drop"}
    spelled |= {"save_iters", "num_workers"}
    for name, value in flag_values(bare).items():
        got = flag_values(told)[name]
        assert name in spelled or got == value or not (got or value), name
    schedule = told.schedule
    assert (schedule.warmup_epochs, schedule.cooldown_epochs, told.data.num_workers) == (20, 10, 8)


def test_flags_that_never_had_an_effect_are_one_line_each() -> None:
    harmless = "--gp avg --bn-momentum 0.1 --bn-tf --pin-mem --dist-bn broadcast --decay-epochs 30"
    command, notes, _ = plan(["1", "8", "0", *harmless.split()])
    assert notes == [
        "--gp has no effect: it never reached the model",
        "--bn-tf has no effect: it never reached the model",
        "--bn-momentum has no effect: it never reached the model",
        "--pin-mem has no effect: loaders always do what the device needs",
    ]
    assert not {"--gp", "--pin-mem", "--dist-bn"} & set(command)


def test_every_flag_without_a_translation_has_a_reason() -> None:
    assert all((*REFUSED.values(), *WITHOUT_EFFECT.values(), *(why for _, why in FIXED.values())))


def test_the_shell_script_shows_the_command() -> None:
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["sh", str(ROOT / "scripts" / "train_imagenet.sh"), "2", "8", "1", *PUBLISHED]
        + ["--dist-url", "tcp://first:1234", "--dry_run"],
        cwd="/", env=environment(PATH=path), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--master_addr=first --master_port=1234 train.py --task classify" in done.stdout
