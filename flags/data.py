# SPDX-License-Identifier: Apache-2.0
"""Flags of data sets, sampling and augmentation."""

from __future__ import annotations

from collections.abc import Callable

from config import DATASETS
from flags.values import (
    CLASSES,
    batch_size,
    box,
    crop_size,
    file_name,
    fraction,
    listed,
    non_negative_int,
    number,
    pixels,
    share,
)


def add_data(add: Callable[..., object]) -> None:
    add("--dataset", default="cityscapes", choices=DATASETS, help="which data set")
    add(
        "--set_cityscapes_root",
        type=file_name,
        default="",
        metavar="DIR",
        help="same as DATASET.CITYSCAPES_DIR",
    )
    add("--cv", type=number(int, 0, 21), default=0, help="fold of cityscapes, gtav or kitti")
    add(
        "--city_mode",
        choices=("train", "trainval"),
        default="train",
        help="trainval: train on val too (camvid then validates on test, kitti on all)",
    )
    add("--maxSkip", type=number(int, 0, 1000), default=0, help="cityscapes: add frames +-N")
    add("--scf", action="store_true", help="kitti: images of double size")
    add("--no_pos_dataset", action="store_true", help="batches without row positions, no aux loss")
    add(
        "--num_workers",
        type=number(int, 0, 512),
        default=4,
        help="loader processes a rank; val half",
    )
    add("--class_uniform_pct", type=fraction, default=0.5, help="share of class-uniform crops")
    add("--class_uniform_tile", type=pixels, default=1024, help="tile side of centroids, px")
    add(
        "--coarse_boost_classes",
        type=listed(int, low=0, high=CLASSES),
        help="trainIds drawn from coarse images too",
    )
    add(
        "--custom_coarse_dropout_classes",
        type=listed(int, low=0, high=CLASSES),
        help="auto-label union classes",
    )
    add("--custom_coarse_prob", type=fraction, help="auto-label probability threshold")
    add("--mask_out_cityscapes", action="store_true", help="void border of auto-labelled images")
    add("--only_coarse", action="store_true", help="class-uniform draws from coarse images only")
    add("--max_cu_epoch", type=non_negative_int, default=150, help="extra images end here")
    add("--bs_trn", "--bs_mult", type=batch_size, default=2, help="training images a process")
    add("--bs_val", "--bs_mult_val", type=batch_size, default=1, help="validation images of one")


def add_augmentation(add: Callable[..., object]) -> None:
    add("--crop_size", type=crop_size, default=(896, 896), help="training crop, N or H,W pixels")
    add("--scale_min", type=number(float, 0.01, 16), default=0.5, help="smallest random scale")
    add("--scale_max", type=number(float, 0.01, 16), default=2.0, help="largest random scale")
    add("--pre_size", type=pixels, help="long edge before the random scale, px")
    add("--pre_size_of", choices=("long", "short"), default="long", help="edge of --pre_size")
    add("--crop_nopad", action="store_true", help="enlarge images below the crop, do not pad")
    add("--rrotate", type=number(float, 0, 180), default=0.0, help="largest rotation, degrees")
    add("--color_aug", type=fraction, default=0.25, help="colour jitter strength, 0 disables")
    add("--gblur", action="store_true", help="gaussian blur")
    add("--bblur", action="store_true", help="bilateral blur (wins over --gblur)")
    add("--rand_augment", type=listed(int, 2, low=0, high=100), help="RandAugment N,M")
    add("--full_crop_training", action="store_true", help="crop size is the image size")
    add("--translate_aug_fix", action="store_true", help="small images slide inside the crop")
    add("--map_crop_val", action="store_true", help="validation: square of --pre_size or 1536 px")
    add("--augmentation", default="hmsa", choices=("hmsa", "mmseg"), help="which pipeline trains")
    add("--img_scale", type=box, default=(2048, 512), help="mmseg: LONG,SHORT box of ratio 1, px")
    add(
        "--ratio_range",
        type=listed(float, 2, low=0, high=16),
        default=(0.5, 2.0),
        help="mmseg: random ratio",
    )
    add("--cat_max_ratio", type=share, default=0.75, help="mmseg: largest class share of a crop")
    add("--test_scale", type=box, metavar="LONG,SHORT", help="validation: fit images into a box")
    add("--size_divisor", type=pixels, default=1, help="--test_scale: round sides up to it")
    add("--dump_augmentation_images", action="store_true", help="write augmented images, stop")
