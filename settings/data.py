# SPDX-License-Identifier: Apache-2.0
"""Data set, sampling and batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from datasets import table
from settings.declare import (
    APPLIED,
    BETWEEN_EPOCHS,
    BOTH,
    IN_FILE,
    REFUSED,
    Bounds,
    Group,
    Need,
    setting,
)
from settings.needs import (
    COARSE_FLAGS,
    COARSE_SETS,
    DRAWS_COARSE,
    HMSA,
    READS_COARSE,
    STOPS_EXTRAS,
    reads_coarse,
    with_sets,
)
from settings.ranges import BATCH, CLASS_IDS, COUNT, FRACTION, PIXELS

DATASETS = table.names()
ENLARGED_SETS = with_sets(lambda row: row.enlarges)


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which images a run takes, and in which batches."""

    GROUP: ClassVar[Group] = Group(title="data", resume=BETWEEN_EPOCHS)

    dataset: str = setting(
        "cityscapes",
        "--dataset",
        choices=DATASETS,
        help="which data set",
        classify="imagenet",
        inherited=True,
        task=BOTH,
        resume=REFUSED,
    )
    cv: int = setting(
        0,
        "--cv",
        bounds=Bounds(0, 21),
        help="cross-validation fold of cityscapes, gtav or kitti",
        inherited=True,
        resume=REFUSED,
    )
    city_mode: str = setting(
        "train",
        "--city_mode",
        choices=("train", "trainval"),
        help="trainval: train on val too (camvid then validates on test, kitti on all)",
        needs=with_sets(lambda row: row.joint),
        inherited=True,
        resume=REFUSED,
    )
    maxSkip: int = setting(
        0,
        "--maxSkip",
        bounds=Bounds(0, 1000),
        help="cityscapes: train on the video frames N before and N after each image too",
        needs=Need(
            lambda s: COARSE_SETS.holds(s) and not s.inference.eval,
            f"{COARSE_SETS.text}, in training",
        ),
        idle=True,
    )
    scf: bool = setting(
        False,
        "--scf",
        help="kitti: images at double size",
        needs=Need(
            lambda s: ENLARGED_SETS.holds(s) and HMSA.holds(s),
            f"{ENLARGED_SETS.text} and {HMSA.text}",
        ),
        excludes=("pre_size", "map_crop_val"),
        inherited=True,
    )
    no_pos_dataset: bool = setting(
        False,
        "--no_pos_dataset",
        help="HANet: batches without row positions, no auxiliary loss",
        excludes=("aux_loss",),
        inherited=True,
        resume=IN_FILE,
    )
    num_workers: int = setting(
        4,
        "--num_workers",
        bounds=Bounds(0, 512),
        help="loader processes per rank; half of them in validation",
        task=BOTH,
        resume=APPLIED,
        decides=False,
    )
    class_uniform_pct: float = setting(
        0.5,
        "--class_uniform_pct",
        bounds=FRACTION,
        help="share of training crops that are drawn class by class, all equally often",
    )
    class_uniform_tile: int = setting(
        1024,
        "--class_uniform_tile",
        bounds=PIXELS,
        help="side of the tiles in which each class has one point to centre a crop on, px",
    )
    coarse_boost_classes: tuple[int, ...] | None = setting(
        None,
        "--coarse_boost_classes",
        bounds=CLASS_IDS,
        help="train ids of classes that are drawn from coarse images too",
        needs=DRAWS_COARSE,
    )
    custom_coarse_dropout_classes: tuple[int, ...] | None = setting(
        None,
        "--custom_coarse_dropout_classes",
        bounds=CLASS_IDS,
        help="train ids that annotators' coarse labels add to auto-labelled images",
        needs=READS_COARSE,
    )
    custom_coarse_prob: float | None = setting(
        None,
        "--custom_coarse_prob",
        bounds=FRACTION,
        help="confidence below which a pixel of an auto-labelled image is ignored",
        needs=Need(
            lambda s: reads_coarse(s) or s.outputs.dump_for_auto_labelling,
            f"{COARSE_FLAGS} or --dump_for_auto_labelling",
        ),
        decides=False,
    )
    mask_out_cityscapes: bool = setting(
        False,
        "--mask_out_cityscapes",
        help="ignore the border of auto-labelled images",
        needs=READS_COARSE,
    )
    only_coarse: bool = setting(
        False,
        "--only_coarse",
        help="class-uniform draws from coarse images only",
        needs=DRAWS_COARSE,
        excludes=("coarse_boost_classes",),
    )
    max_cu_epoch: int = setting(
        150,
        "--max_cu_epoch",
        bounds=COUNT,
        help="epoch from which on no coarse images and video frames are drawn",
        needs=STOPS_EXTRAS,
    )
    bs_trn: int = setting(
        2,
        "--bs_trn",
        "--bs_mult",
        bounds=BATCH,
        help="training images per process",
        classify=64,
        task=BOTH,
        decides=False,
    )
    bs_val: int = setting(
        1,
        "--bs_val",
        "--bs_mult_val",
        bounds=BATCH,
        help="validation images per process",
        classify=64,
        task=BOTH,
        resume=APPLIED,
        decides=False,
    )
