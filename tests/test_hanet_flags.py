# SPDX-License-Identifier: Apache-2.0
"""HANet's flags: other spellings of shared settings, and one line for what contradicts."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import UserError
from settings import Settings, build_parser, flag_values, read_settings


def parsed(*argv: str) -> Settings:
    return read_settings(argv)


# every flag of HANet's train.py and eval.py (arguments, if any, beside it)
TRAINING = (
    "--arch --dataset --cv --city_mode --hanet --hanet_set --hanet_pos --pos_rfactor "
    "--no_pos_dataset --pos_noise --pooling --dropout --aux_loss --attention_loss --hanet_lr "
    "--hanet_poly_exp --hanet_wd --backbone_lr --lr --lr_schedule --poly_exp --rescale --repoly "
    "--max_iter --weight_decay --momentum --sgd --adam --amsgrad --class_uniform_pct "
    "--class_uniform_tile --max_cu_epoch --coarse_boost_classes --img_wt_loss --cls_wt_loss "
    "--batch_weighting --jointwtborder --strict_bdr_cls --rlx_off_iter --wt_bound -wb --bs_mult "
    "--bs_mult_val --crop_size --pre_size --crop_nopad --scale_min --scale_max --rrotate "
    "--color_aug --gblur --bblur --snapshot --snapshot_pe --restore_optimizer --syncbn "
    "--maxSkip --scf --hardnm --date --exp --ckpt --tb_path --dump_augmentation_images "
    "--test_mode --local_rank --dist_url --fp16 --freeze_trunk --trunk --max_epoch "
    "--start_epoch --tb_tag"
)
EVALUATION = (
    "--arch --snapshot --inference_mode -im --scales --single_scale --no_flip --crop_size "
    "--sliding_overlap --dataset --split --mode --cv_split --split_index --split_count "
    "--dump_images --test_mode --ckpt_path --exp_name --hanet --hanet_set --hanet_pos "
    "--pos_rfactor --pos_noise --pooling --dropout --aux_loss --attention_loss "
    "--fixed_aspp_pool --num_workers --syncbn --local_rank --dist_url --trunk --dataset_cls "
    "--dataset_dir --profile --dist_bn --resume"
)


# the command lines of HANet's eleven scripts
COMMON = (
    "--lr_schedule poly --lr 0.01 --poly_exp 0.9 --hanet_lr 0.01 --hanet_poly_exp 0.9 "
    "--max_cu_epoch 10000 --class_uniform_pct 0.5 --class_uniform_tile 1024 --syncbn --sgd "
    "--scale_min 0.5 --scale_max 2.0 --rrotate 0 --color_aug 0.25 --gblur --hanet_pos 2 1 "
    "--dropout 0.1 --date 0101 --ckpt ./logs/ --tb_path ./logs/ --exp"
)
CITY, FOUR = "--dataset cityscapes --city_mode", "--pos_rfactor 8 --aux_loss --hanet 1 1 1 1 0"
BOOST, R101 = "--coarse_boost_classes 14,15,16,3,12,17,4", "--arch network.deepv3.DeepR101V3PlusD"
X101 = "--arch network.deepv3.DeepResNext101V3PlusD_HANet_OS8"
LARGE = "--crop_size 864 --max_iter 90000"
SCRIPTS = {
    "train_m_os16": f"{COMMON} m {CITY} train --arch network.deepv3.DeepMobileNetV3PlusD_HANet "
    f"{FOUR} --hanet_set 3 16 3 --pos_noise 0.3 --bs_mult 8 --crop_size 768 --max_iter 40000",
    "train_r101_os16": f"{COMMON} r {CITY} train {R101}_HANet {FOUR} --hanet_set 3 32 3 "
    "--pos_noise 0.5 --bs_mult 4 --crop_size 768 --max_iter 40000",
    "train_r101_os8": f"{COMMON} r {CITY} train {R101}_HANet_OS8 {FOUR} --hanet_set 3 64 3 "
    "--pos_noise 0.5 --bs_mult 4 --crop_size 768 --max_iter 40000",
    "train_r101_os8_best": f"{COMMON} b {CITY} trainval {R101}_HANet_OS8 {FOUR} "
    f"--hanet_set 3 64 3 --pos_noise 0.5 --bs_mult 3 --cls_wt_loss {LARGE}",
    "train_resnext_pretrain": f"{COMMON} p --dataset mapillary {X101} --no_pos_dataset "
    "--hanet 0 0 0 0 0 --hanet_set 3 64 3 --img_wt_loss --bs_mult 2 --crop_size 864 "
    "--max_iter 200000",
    "train_resnext_fr_pretrain": f"{COMMON} f {CITY} trainval {X101} {FOUR} {BOOST} "
    f"--hanet_set 3 64 3 --pos_noise 0.5 --bs_mult 2 --cls_wt_loss {LARGE} --snapshot F.pth",
}
SCORED = f"--inference_mode sliding --scales 0.5,1.0,2.0 --cv_split 0 {FOUR} --hanet_set 3 64 3"
SCORED += " --hanet_pos 2 1 --dataset cityscapes --snapshot F.pth --ckpt_path OUT"
SCRIPTS |= {
    "eval_r101_os8": f"--split val {SCORED} {R101}_HANet_OS8",
    "eval_resnext_os8": f"--split val {SCORED} {X101}",
    "eval_resnext_os4": f"--split val {SCORED} {X101[:-1]}4",
    "submit_r101_os8": f"--split test --dump_images {SCORED} {R101}_HANet_OS8",
    "submit_cityscapes_resnext": f"--split test --dump_images {SCORED} {X101}",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_published_command_lines_run_verbatim(script: str) -> None:
    told = parsed(*SCRIPTS[script].split())
    assert told.inference.eval or told.schedule.lr_by == "iter"
    assert told.hanet.hanet_lr == (
        0.01 if script.startswith("train") and any(told.MODEL.hanet) else 0
    )
    idle = [note for note in told.notes if "no HANet block" in note]
    assert len(idle) == (script == "train_resnext_pretrain")


@pytest.mark.parametrize(
    "argv",
    [
        ["--rlx_off_iter", "-1", "--rlx_off_epoch", "-1", "--strict_bdr_cls", ""],
        ["--hanet_wd", "1e-4", "--hanet_poly_exp", "0", "--backbone_lr", "0", "--wt_bound", "1"],
        ["--max_cu_epoch", "180"],
    ],
)
def test_published_defaults_may_be_spelled_out(argv: list[str]) -> None:
    plain = flag_values(parsed())
    told = flag_values(parsed(*argv))
    own = {flag.removeprefix("--") for flag in argv}
    assert {name: told[name] for name in plain if name not in own} == {
        name: plain[name] for name in plain if name not in own
    }


@pytest.mark.parametrize(
    ("argv", "unit"),
    [
        ([], "epoch"),
        (["--max_iter", "9"], "iter"),
        (["--max_iter", "9", "--lr_by", "epoch"], "epoch"),
        (["--max_iter", "9", "--lr_schedule", "poly2"], "epoch"),
        (["--max_iter", "9", "--test_mode"], "iter"),
    ],
)
def test_the_rate_goes_by_iteration_where_the_length_does(argv: list[str], unit: str) -> None:
    assert parsed(*argv).schedule.lr_by == unit


@pytest.mark.parametrize("published", [TRAINING, EVALUATION], ids=["train.py", "eval.py"])
def test_every_published_flag_is_accepted(published: str) -> None:
    known = {name for action in build_parser()._actions for name in action.option_strings}
    assert set(published.split()) - known == set()


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--bs_mult", "4"], "bs_trn", 4),
        (["--bs_mult_val", "3"], "bs_val", 3),
        (["--adam"], "optimizer", "adam"),
        (["--sgd"], "optimizer", "sgd"),
        (["--eval", "val", "-im", "pooling", "--single_scale"], "scales", (1.0,)),
        (["--eval", "val", "--no_flip"], "inference_mode", "sliding"),
        (["--eval", "val"], "inference_mode", "whole"),
        (["--split", "test"], "eval", "test"),
        (["--split", "train"], "eval", "trn"),
        (["--aux_loss"], "aux_loss", True),
        (["--hanet", "1", "1", "1", "1", "0"], "hanet", (1, 1, 1, 1, 0)),
    ],
)
def test_other_spellings_reach_the_shared_setting(
    argv: list[str], name: str, value: object
) -> None:
    assert flag_values(parsed(*argv))[name] == value


def test_run_directories_follow_the_published_folders(tmp_path: Path) -> None:
    told = parsed("--ckpt", str(tmp_path), "--date", "0101", "--exp", "r101")
    assert told.run.result_dir == f"{tmp_path}/0101/r101"
    told = parsed("--ckpt", "x", "--result_dir", str(tmp_path))
    assert told.run.result_dir == str(tmp_path) and "--result_dir wins" in told.notes[0]
    snapshot = str(tmp_path / "date" / "r101" / "01_01_10" / "best.pth")
    told = parsed("--eval", "val", "--snapshot", snapshot, "--exp_name", "mine")
    assert told.run.result_dir == f"{tmp_path}/date/mine/val"
    told = parsed("--eval", "test", "--snapshot", snapshot, "--ckpt_path", f"{tmp_path}/out")
    assert told.run.result_dir == f"{tmp_path}/out/r101/test"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--hanet_poly_exp", "2"], ["--hanet_poly_exp", "--hanet_lr"]),
        (["--hanet_lr", "0.1", "--eval", "val"], ["--hanet_lr", "training"]),
        (["--hanet_lr", "0.1", "--param_rules", "head:lr=10"], ["exclude each other"]),
        (["--eval", "val", "--scales", "0.5", "-im", "whole"], ["--scales", "--inference_mode"]),
        (["--eval", "val", "--sliding_official", "-im", "pooling"], ["--sliding_official"]),
        (["--eval", "val", "-im", "sliding", "--do_flip"], ["--do_flip", "--no_flip"]),
        (["--eval", "val", "-im", "sliding", "--slide_crop", "64"], ["--slide_crop"]),
        (["--eval", "val", "--sliding_overlap", "1"], ["--sliding_overlap", "at most 0.95"]),
        (["--eval", "val", "--split", "test"], ["--split test", "--eval val"]),
        (["--eval", "val", "--split_count", "2", "--split_index", "2"], ["--split_index 2"]),
        (["--dataset", "camvid", "--cls_wt_loss"], ["--cls_wt_loss", "camvid"]),
        (["--cls_wt_loss", "--rmi_loss"], ["exclude each other"]),
        (["--dataset", "bdd100k", "--city_mode", "trainval"], ["--city_mode", "camvid or kitti"]),
        (["--dataset", "camvid", "--maxSkip", "2"], ["--maxSkip", "cityscapes"]),
        (["--scf"], ["--scf", "kitti"]),
        (["--dataset", "kitti", "--scf", "--pre_size", "600"], ["exclude each other"]),
        (["--pre_size_of", "short"], ["--pre_size_of", "--pre_size"]),
        (["--no_pos_dataset", "--aux_loss"], ["exclude each other"]),
        (["--adam", "--optimizer", "sgd"], ["exclude each other"]),
        (["--rlx_off_iter", "5"], ["--rlx_off_iter", "--jointwtborder"]),
        (["--lr_by", "iter", "--lr_schedule", "poly2"], ["--lr_schedule poly2"]),
        (["--max_cu_epoch", "9"], ["--max_cu_epoch", "--maxSkip"]),
        (["--max_cu_epoch", "179", "--max_epoch", "180"], ["--max_cu_epoch", "--maxSkip"]),
        (["--hanet_wd", "5e-4"], ["--hanet_wd", "--hanet_lr"]),
        (["--dump_images"], ["--dump_images", "--eval"]),
        (["--exp_name", "x", "--eval", "val"], ["--exp_name", "--snapshot"]),
    ],
)
def test_contradictions_are_one_line(argv: list[str], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        parsed(*argv)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)
