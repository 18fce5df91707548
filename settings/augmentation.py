# SPDX-License-Identifier: Apache-2.0
"""Crops, random changes and sizes of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from settings.convert import box, crop_size
from settings.declare import BOTH, UNRELATED, Bounds, Group, Need, setting
from settings.needs import HMSA, MMSEG
from settings.ranges import FRACTION, PIXELS, SHARE


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings:
    """What happens to an image on its way to the network."""

    GROUP: ClassVar[Group] = Group(title="augmentation")

    crop_size: tuple[int, int] = setting(
        (896, 896), "--crop_size", parse=crop_size, help="size of training crops, N or H,W pixels"
    )
    scale_min: float = setting(
        0.5,
        "--scale_min",
        bounds=Bounds(0.01, 16),
        help="smallest random scale of training images",
        needs=HMSA,
    )
    scale_max: float = setting(
        2.0,
        "--scale_max",
        bounds=Bounds(0.01, 16),
        help="largest random scale of training images",
        needs=HMSA,
    )
    pre_size: int | None = setting(
        None,
        "--pre_size",
        bounds=PIXELS,
        help="resize images to this long edge first, px (short edge: --pre_size_of)",
        needs=Need(
            lambda s: s.augmentation.augmentation == "hmsa" or s.inference.eval,
            "--augmentation hmsa, in training",
        ),
        inherited=True,
    )
    pre_size_of: str = setting(
        "long",
        "--pre_size_of",
        choices=("long", "short"),
        help="which edge of an image --pre_size sets",
        needs=Need(lambda s: s.augmentation.pre_size is not None, "--pre_size"),
    )
    crop_nopad: bool = setting(
        False,
        "--crop_nopad",
        help="enlarge images below the crop instead of padding them",
        needs=HMSA,
    )
    rrotate: float = setting(
        0.0, "--rrotate", bounds=Bounds(0, 180), help="largest random rotation, degrees", needs=HMSA
    )
    color_aug: float = setting(
        0.25, "--color_aug", bounds=FRACTION, help="strength of colour jitter, 0: none", needs=HMSA
    )
    gblur: bool = setting(False, "--gblur", help="random Gaussian blur", needs=HMSA)
    bblur: bool = setting(
        False, "--bblur", help="random bilateral blur (wins over --gblur)", needs=HMSA
    )
    rand_augment: tuple[int, int] | None = setting(
        None,
        "--rand_augment",
        bounds=Bounds(0, 100),
        help="RandAugment with N operations of magnitude M: N,M",
        needs=HMSA,
    )
    full_crop_training: bool = setting(
        False,
        "--full_crop_training",
        help="crops are as large as the image, before the random scale, is",
        needs=HMSA,
    )
    translate_aug_fix: bool = setting(
        False,
        "--translate_aug_fix",
        help="images below the crop lie at a random place in it",
        needs=HMSA,
    )
    map_crop_val: bool = setting(
        False,
        "--map_crop_val",
        help="evaluate a centred square of --pre_size (1536 without) px",
        inherited=True,
    )
    augmentation: str = setting(
        "hmsa",
        "--augmentation",
        choices=("hmsa", "mmseg"),
        help="pipeline of training images: as in HMSA's program or in mmsegmentation",
    )
    img_scale: tuple[int, int] = setting(
        (2048, 512),
        "--img_scale",
        parse=box,
        help="mmseg: LONG,SHORT sides of the box that images are fitted into at ratio 1, px",
        needs=MMSEG,
    )
    ratio_range: tuple[float, float] = setting(
        (0.5, 2.0),
        "--ratio_range",
        bounds=Bounds(0, 16),
        help="mmseg: LOW,HIGH of the random ratio to --img_scale",
        needs=MMSEG,
    )
    cat_max_ratio: float = setting(
        0.75,
        "--cat_max_ratio",
        bounds=SHARE,
        help="mmseg: largest share of one class in a crop",
        needs=MMSEG,
    )
    test_scale: tuple[int, int] | None = setting(
        None,
        "--test_scale",
        parse=box,
        help="evaluation: fit images into a box of these sides, px",
        metavar="LONG,SHORT",
        inherited=True,
    )
    size_divisor: int = setting(
        1,
        "--size_divisor",
        bounds=PIXELS,
        help="with --test_scale: round sides up to a multiple of it",
        needs=Need(lambda s: s.augmentation.test_scale is not None, "--test_scale"),
        inherited=True,
    )
    dump_augmentation_images: bool = setting(
        False,
        "--dump_augmentation_images",
        help="write some augmented training images and stop",
        task=BOTH,
        resume=UNRELATED,
    )
