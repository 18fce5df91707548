# SPDX-License-Identifier: Apache-2.0
"""Every recipe in scripts/: the command runx makes of it, the parser, the network.

runx really runs (dry), a shell really runs the printed line, and a stand-in for `python` records
the arguments that arrive. So quoting, sweeps and inheritance are those of a true run.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from assembly.dataset import dataset_spec
from config import cfg, parse_args
from network.build import build_net
from settings import Settings, flag_values

ROOT = Path(__file__).resolve().parent.parent
RECIPES = sorted(path.stem for path in (ROOT / "scripts").glob("*.yml"))
PUBLISHED = (
    "dump_cityscapes", "dump_folder", "eval_cityscapes", "eval_mapillary", "train_cityscapes",
    "train_cityscapes_deepv3", "train_cityscapes_sota", "train_mapillary",
)  # fmt: skip

RECORDER = """#!/bin/sh
printf '%s\\0' "$@" > "$RECORDED"
"""


def printed_commands(recipe: str, place: Path) -> list[str]:
    """The shell lines that `runx -i -n` prints for `recipe`, with LOGROOT in `place`."""
    (place / ".runx").write_text(f"LOGROOT: {place}/logs\n")
    command = [sys.executable, "-m", "runx.runx", str(ROOT / "scripts" / f"{recipe}.yml")]
    done = subprocess.run(
        [*command, "-i", "-n"], cwd=place, capture_output=True, text=True, check=True, timeout=60
    )
    return [line for line in done.stdout.splitlines() if line.startswith("cd ")]


def received(line: str, place: Path) -> list[str]:
    """The arguments `python` gets when a shell runs `line`."""
    code = Path(re.match(r"cd (\S+);", line)[1])
    code.mkdir(parents=True)
    trained = code.parent.parent / "train_some-name_2026.01.01_00.00"
    trained.mkdir(exist_ok=True)
    for name in ("best", "last"):
        (trained / f"{name}_checkpoint_ep3.pth").touch()
    (place / "bin").mkdir(exist_ok=True)
    recorder = place / "bin" / "python"
    recorder.write_text(RECORDER)
    recorder.chmod(0o755)
    record = place / "arguments"
    path = f"{recorder.parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "RECORDED": str(record)}
    subprocess.run(["sh", "-c", line], env=environment, check=True, timeout=60)
    return record.read_text().split("\0")[:-1]


def parsed(arguments: list[str]) -> Settings:
    """`arguments` of `python`, through the parser of the program they start."""
    program = next(item for item in arguments if item in ("train.py", "eval.py"))
    at = arguments.index(program)
    launcher = "-m torch.distributed.launch --nproc_per_node="
    assert not at or re.fullmatch(f"{launcher}[1-8]", " ".join(arguments[:at]))
    vars(cfg)["_frozen"] = False
    default = "val" if program == "eval.py" else None
    return parse_args(arguments[at + 1 :], prog=program, eval_default=default)


def build(told: Settings) -> torch.nn.Module:
    """The network of `told` at its true size, without memory for the weights."""
    is_imagenet = told.classification.task == "classify"
    num_classes = 1000 if is_imagenet else dataset_spec(told).num_classes
    options = {**dataclasses.asdict(told.MODEL), "pretrained": ""}  # a file of the user
    with torch.device("meta"):
        return build_net(told.network.arch, num_classes, **options)


# Of families of alike recipes a few are tried every time, all of them in `make slow`.
FAMILIES = re.compile(r"(eval_|test_ms_)?(segformer|hila|unept)_")
TRIED = {"segformer_b5_ade", "hila_b2_s234_city", "hila_swin_t_ade", "test_ms_segformer_ade"}
TRIED |= {"unept_deit_pcontext", "test_ms_unept_ade20k"}
LIKE_OTHERS = re.compile(r"hrvit_(eval_)?(segformer_b2|segformer_b3|segformer_city|upernet)")


def often(recipe: str) -> bool:
    return recipe in TRIED or not (FAMILIES.match(recipe) or LIKE_OTHERS.match(recipe))


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(each, marks=[] if often(each) else [pytest.mark.slow]) for each in RECIPES],
)
def test_runx_arguments_parse_and_build_the_network(
    recipe: str, tmp_path: Path, mapillary_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HISEG_MAPILLARY_DIR", str(mapillary_root))  # its classes stand there
    lines = printed_commands(recipe, tmp_path)
    assert lines
    for line in lines:
        told = parsed(received(line, tmp_path))
        assert told.run.result_dir.startswith(f"{tmp_path}/logs/{recipe}/")
        assert sum(weight.numel() for weight in build(told).parameters()) > 1000
        values = HANET_VALUES.get(recipe.removeprefix("hanet_"), {})
        assert {name: flag_values(told)[name] for name in values} == values


def test_the_published_recipes_exist() -> None:
    assert {*PUBLISHED, *(f"hanet_{name}" for name in HANET_VALUES)} <= set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_says_what_it_is_for(recipe: str) -> None:
    text = (ROOT / "scripts" / f"{recipe}.yml").read_text()
    for word in ("Purpose:", "Hardware:", "Score:", "Source:"):
        assert re.search(rf"^# {word}", text, re.MULTILINE), word


TRAINING = {"bs_trn": 1, "lr": 5e-3, "poly_exp": 2.0, "max_epoch": 175, "lr_schedule": "poly"}
SCALES = {"n_scales": (0.5, 1.0, 2.0), "arch": "ocrnet.HRNet_Mscale", "precision": "fp16"}
FINE = {**TRAINING, **SCALES, "crop_size": (1024, 2048), "rmi_loss": True}
FINE["supervised_mscale_loss_wt"] = 0.05
COARSE = {
    "coarse_boost_classes": (3, 4, 6, 7, 9, *range(11, 19)),
    "custom_coarse_dropout_classes": (14, 15, 16),
    "custom_coarse_prob": 0.5,
    "mask_out_cityscapes": True,
    "max_cu_epoch": 150,
}
VALUES = {
    "train_cityscapes": {**FINE, "dataset": "cityscapes"},
    "train_cityscapes_sota": {**FINE, **COARSE, "lr": 1e-2},
    "train_cityscapes_deepv3": {
        **TRAINING, "arch": "deepv3.DeepV3PlusW38", "crop_size": (800, 800), "rmi_loss": False,
    },
    "train_mapillary": {
        **SCALES, "dataset": "mapillary", "crop_size": (1024, 1024), "bs_trn": 2, "lr": 5e-3,
        "poly_exp": 1.0, "max_epoch": 200, "rmi_loss": True, "pre_size": 2177, "gblur": True,
    },
    "eval_cityscapes": {**SCALES, "eval": "val", "bs_val": 2, "do_flip": False},
    "eval_mapillary": {
        **SCALES, "eval": "val", "bs_val": 1, "n_scales": (0.25, 0.5, 1.0, 2.0), "do_flip": True,
        "pre_size": 2177, "amp_opt_level": "O3",
    },
    "dump_cityscapes": {**SCALES, "eval": "val", "dump_assets": True, "dump_all_images": True},
    "dump_folder": {**SCALES, "eval": "folder", "dump_assets": True, "dump_all_images": True},
}  # fmt: skip


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_published_values_arrive(recipe: str, tmp_path: Path) -> None:
    (line,) = printed_commands(recipe, tmp_path)
    told = parsed(received(line, tmp_path))
    values = {"apex": True, "syncbn": True, "fp16": True, **VALUES[recipe]}
    assert {name: flag_values(told)[name] for name in values} == values


HANET = {
    "dataset": "cityscapes", "hanet": (1, 1, 1, 1, 0), "hanet_set": (3, 64, 3),
    "hanet_pos": (2, 1), "pos_rfactor": 8, "aux_loss": True,
}  # fmt: skip
HANET_TRAIN = {
    **HANET, "lr": 0.01, "poly_exp": 0.9, "hanet_lr": 0.01, "hanet_poly_exp": 0.9, "hanet_wd": 1e-4,
    "weight_decay": 5e-4, "lr_by": "iter", "class_uniform_pct": 0.5, "class_uniform_tile": 1024,
    "syncbn": True, "optimizer": "sgd", "color_aug": 0.25, "gblur": True, "dropout": 0.1,
    "pos_noise": 0.5, "crop_size": (768, 768), "max_iter": 40000, "bs_trn": 4,
    "max_cu_epoch": 10000,
}  # fmt: skip
LARGE = {"crop_size": (864, 864), "max_iter": 90000, "city_mode": "trainval", "cls_wt_loss": True}
HANET_EVAL = {
    **HANET, "eval": "val", "inference_mode": "sliding", "scales": (0.5, 1.0, 2.0),
    "no_flip": False, "crop_size": (1024, 1024), "sliding_official": False,
}  # fmt: skip
SUBMIT = {**HANET_EVAL, "eval": "test", "dump_images": True, "dump_for_submission": True}
HANET_VALUES = {
    "train_m_os16": {**HANET_TRAIN, "hanet_set": (3, 16, 3), "pos_noise": 0.3, "bs_trn": 8},
    "train_r101_os16": {**HANET_TRAIN, "hanet_set": (3, 32, 3)},
    "train_r101_os8": HANET_TRAIN,
    "train_r101_os8_best": {**HANET_TRAIN, **LARGE, "bs_trn": 3},
    "train_resnext_pretrain": {
        "dataset": "mapillary", "crop_size": (864, 864), "max_iter": 200000, "bs_trn": 2,
        "hanet": (0, 0, 0, 0, 0), "no_pos_dataset": True, "img_wt_loss": True, "aux_loss": False,
        "max_cu_epoch": 10000,
    },
    "train_resnext_fr_pretrain": {
        **HANET_TRAIN, **LARGE, "bs_trn": 2, "coarse_boost_classes": (14, 15, 16, 3, 12, 17, 4),
    },
    "eval_r101_os8": {**HANET_EVAL, "arch": "hanet.DeepR101V3PlusD_HANet_OS8"},
    "eval_resnext_os8": {**HANET_EVAL, "arch": "hanet.DeepResNext101V3PlusD_HANet_OS8"},
    "eval_resnext_os4": {**HANET_EVAL, "arch": "hanet.DeepResNext101V3PlusD_HANet_OS4"},
    "submit_r101_os8": SUBMIT,
    "submit_cityscapes_resnext": SUBMIT,
}  # fmt: skip


ADE20K = {
    "dataset": "ade20k", "img_scale": (2048, 512), "test_scale": (2048, 512), "bs_trn": 2,
    "crop_size": (512, 512), "val_iters": 16000, "slide_crop": None, "grad_ckpt": False,
}  # fmt: skip
WINDOWS = {
    "dataset": "cityscapes", "img_scale": (2048, 1024), "test_scale": (2048, 1024), "bs_trn": 1,
    "crop_size": (1024, 1024), "val_iters": 4000, "slide_crop": (1024, 1024),
    "slide_stride": (768, 768),
}  # fmt: skip
HRVIT = {
    "optimizer": "adamw", "lr": 6e-5, "weight_decay": 0.01, "betas": (0.9, 0.999), "poly_exp": 1.0,
    "lr_schedule": "poly", "min_lr": 0.0, "warmup_iters": 1500, "warmup_ratio": 1e-6,
    "max_iter": 160000, "loss_average": "all", "augmentation": "mmseg", "syncbn": True,
    "ocr_alpha": 0.4, "precision": "fp32", "clip_grad": None, "class_uniform_pct": 0.0,
}  # fmt: skip
HRVIT_RECIPES = {  # head and size, data set: drop-path, recomputation, head at ten times the rate
    "segformer_b1_ade20k": (0.1, False, True),
    "segformer_b2_ade20k": (0.2, False, True),
    "segformer_b3_ade20k": (0.3, False, False),
    "segformer_b1_cityscapes": (0.15, False, True),
    "segformer_b2_cityscapes": (0.2, True, True),
    "segformer_b3_cityscapes": (0.3, True, True),
    "upernet_b1_ade20k": (0.1, False, True),
    "upernet_b2_ade20k": (0.2, False, True),
    "upernet_b3_ade20k": (0.3, False, True),  # published: that of b1
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HRVIT_RECIPES))
def test_the_published_values_of_hrvit_arrive(name: str, tmp_path: Path) -> None:
    (line,) = printed_commands(f"hrvit_{name}", tmp_path)
    told = parsed(received(line, tmp_path))
    head, size, dataset = name.split("_")
    drop_path, grad_ckpt, fast_head = HRVIT_RECIPES[name]
    values = {**HRVIT, **(ADE20K if dataset == "ade20k" else WINDOWS)}
    values |= {"drop_path": drop_path, "grad_ckpt": grad_ckpt}
    values["arch"] = f"hrvit.{size}_{ {'segformer': 'SegFormer', 'upernet': 'UPerNet'}[head] }"
    assert {key: flag_values(told)[key] for key in values} == values
    rules = {(rule[0], rule[1], rule[2]) for rule in told.optimiser.param_rules}
    assert rules == {("norm", 1.0, 0.0), *({("head", 10.0, 1.0)} if fast_head else set())}


def test_sweep_is_the_cross_product(tmp_path: Path) -> None:
    lines = printed_commands("sweep_example", tmp_path)
    runs = {
        (told.optimiser.lr, told.loss.rmi_loss)
        for told in (parsed(received(x, tmp_path)) for x in lines)
    }
    assert runs == {(0.01, True), (0.01, False), (0.05, True), (0.05, False)}


def test_demo_evaluates_the_checkpoint_it_trained(tmp_path: Path) -> None:
    train, evaluate = (received(line, tmp_path) for line in printed_commands("demo", tmp_path))
    assert "--eval" not in train
    snapshot = parsed(evaluate).network.snapshot
    assert re.fullmatch(r"\.\./\.\./train_[^/]+/best_checkpoint_ep3\.pth", snapshot)


SEGFORMER = {
    "augmentation": "mmseg", "class_uniform_pct": 0, "optimizer": "adamw", "lr": 6e-5,
    "weight_decay": 0.01, "lr_by": "iter", "warmup_iters": 1500, "loss_average": "all",
    "max_iter": 160_000, "bs_trn": 2,
}  # fmt: skip
ADE = {"dataset": "ade20k", "test_scale": (2048, 512), "size_divisor": 32, "slide_crop": None}
CITY = {"dataset": "cityscapes", "slide_crop": (1024, 1024), "slide_stride": (768, 768)}
FAMILY_VALUES = {
    "segformer_b0_ade": {**SEGFORMER, **ADE, "crop_size": (512, 512), "img_scale": (2048, 512)},
    "segformer_b5_city": {**SEGFORMER, **CITY, "bs_trn": 1, "crop_size": (1024, 1024)},
    "hila_b2_s234_city": {**SEGFORMER, **CITY, "bs_trn": 1, "max_iter": 320_000, "seed": 1},
    "hila_b1_s3_ade": {**SEGFORMER, **ADE, "bs_trn": 4, "val_iters": 160_000, "save_iters": 8000},
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", FAMILY_VALUES)
def test_published_values_of_segformer_and_hila_arrive(recipe: str, tmp_path: Path) -> None:
    (line,) = printed_commands(recipe, tmp_path)
    told = parsed(received(line, tmp_path))
    values = FAMILY_VALUES[recipe]
    assert {name: flag_values(told)[name] for name in values} == values


def test_every_published_segformer_and_hila_configuration_has_a_recipe() -> None:
    sizes = {f"segformer_b{n}_{data}" for n in range(6) for data in ("city", "ade")}
    hila = {name for name in RECIPES if name.startswith("hila_")}
    assert sizes <= set(RECIPES)
    assert len(hila) == 16
