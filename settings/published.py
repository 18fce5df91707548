# SPDX-License-Identifier: Apache-2.0
"""Old spellings and flags without effect: accepted, so that published command lines work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from settings.declare import BOTH, IN_FILE, SEGMENT, UNRELATED, Group, setting
from settings.needs import AVERAGES, FROM_SNAPSHOT, SNAPSHOT
from settings.ranges import PROCESS

SPLITS = {"val": "val", "test": "test", "train": "trn"}  # --split -> --eval

# Accepted for old command lines; the replacement is named in one warning line.
WITHOUT_EFFECT = {
    "dataset_inst": "--dataset",
    "freeze_trunk": "a smaller --lr",
    "hardnm": "--img_wt_loss",
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
# Values of `--trunk` in published command lines, where it never had an effect.
PUBLISHED_TRUNKS = ("resnet101", "resnet50", "hrnetv2", "wrn38", "mobilenetv2", "shufflenetv2")
# Machinery that is gone: what native torch does instead.
REPLACED = {
    "dist_url": "the launcher's address is used",
    "tb_path": "TensorBoard files lie in the run directory",
    "apex": "native DistributedDataParallel and autocast are used",
    "amp_opt_level": "O0 is --precision fp32, O1 and O2 are fp16 autocast, O3 is bf16/fp16 as set",
    "efficient_test": "every evaluation streams: at most two full-size score maps, nothing stored",
}


@dataclass(frozen=True, kw_only=True)
class OldSpellings:
    """Published flags that are other spellings, or whose machinery is gone."""

    GROUP: ClassVar[Group] = Group(title="published spellings", task=BOTH, resume=UNRELATED)

    fp16: bool = setting(
        False, "--fp16", help="same as --precision fp16 (bf16 on a CPU)", excludes=("precision",)
    )
    apex: bool = setting(False, "--apex", help="accepted: native torch does its work")
    amp_opt_level: str | None = setting(
        None,
        "--amp_opt_level",
        choices=("O0", "O1", "O2", "O3"),
        help="accepted: O1, O2 and O3 mean --precision fp16",
    )
    sgd: bool = setting(
        False,
        "--sgd",
        help="same as --optimizer sgd (the default)",
        excludes=("optimizer",),
        task=SEGMENT,
    )
    adam: bool = setting(
        False,
        "--adam",
        help="same as --optimizer adam",
        excludes=("sgd", "optimizer"),
        task=SEGMENT,
    )
    single_scale: bool = setting(
        False,
        "--single_scale",
        help="same as --scales 1",
        needs=AVERAGES,
        excludes=("scales",),
        task=SEGMENT,
    )
    split: str | None = setting(
        None,
        "--split",
        choices=tuple(SPLITS),
        help="another spelling of --eval; train means trn",
        task=SEGMENT,
        decides=False,
    )
    ckpt: str = setting(
        "logs/ckpt",
        "--ckpt",
        path=True,
        help="training runs go to CKPT/DATE/EXP",
        metavar="DIR",
        task=SEGMENT,
        decides=False,
    )
    date: str = setting(
        "default",
        "--date",
        path=True,
        help="folder of runs below --ckpt",
        task=SEGMENT,
        decides=False,
    )
    exp: str = setting(
        "default",
        "--exp",
        path=True,
        help="folder of the run below --ckpt and --date",
        task=SEGMENT,
        decides=False,
    )
    ckpt_path: str | None = setting(
        None,
        "--ckpt_path",
        path=True,
        help="results of an evaluation go to CKPT_PATH/EXP_NAME/SPLIT",
        metavar="DIR",
        needs=FROM_SNAPSHOT,
        task=SEGMENT,
        decides=False,
    )
    exp_name: str | None = setting(
        None,
        "--exp_name",
        path=True,
        help="folder of the results below --ckpt_path",
        metavar="NAME",
        needs=FROM_SNAPSHOT,
        task=SEGMENT,
        decides=False,
    )
    restore_net: bool = setting(
        False,
        "--restore_net",
        help="take the weights of --snapshot, as without this flag",
        needs=SNAPSHOT,
    )
    efficient_test: bool = setting(
        False, "--efficient_test", help="accepted: evaluation always streams", task=SEGMENT
    )
    global_rank: int | None = setting(
        None,
        "--global_rank",
        bounds=PROCESS,
        help="accepted: the launcher's RANK is used",
        decides=False,
    )
    tb_path: str | None = setting(
        None,
        "--tb_path",
        path=True,
        help="accepted: TensorBoard files lie in the run directory",
        metavar="DIR",
        task=SEGMENT,
        decides=False,
    )
    dist_url: str | None = setting(
        None,
        "--dist_url",
        help="accepted: the launcher's address is used",
        metavar="URL",
        task=SEGMENT,
    )
    init_decoder: bool = setting(
        False,
        "--init_decoder",
        resume=IN_FILE,
        help="refused: heads are always initialised as published",
    )
