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
        (896, 896), "--crop_size", parse=crop_size, help="training crop, N or H,W pixels"
    )
    scale_min: float = setting(
        0.5, "--scale_min", bounds=Bounds(0.01, 16), help="smallest random scale", needs=HMSA
    )
    scale_max: float = setting(
        2.0, "--scale_max", bounds=Bounds(0.01, 16), help="largest random scale", needs=HMSA
    )
    pre_size: int | None = setting(
        None,
        "--pre_size",
        bounds=PIXELS,
        help="long edge before the random scale, px",
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
        help="edge of --pre_size",
        needs=Need(lambda s: s.augmentation.pre_size is not None, "--pre_size"),
    )
    crop_nopad: bool = setting(
        False, "--crop_nopad", help="enlarge images below the crop, do not pad", needs=HMSA
    )
    rrotate: float = setting(
        0.0, "--rrotate", bounds=Bounds(0, 180), help="largest rotation, degrees", needs=HMSA
    )
    color_aug: float = setting(
        0.25, "--color_aug", bounds=FRACTION, help="colour jitter strength, 0 disables", needs=HMSA
    )
    gblur: bool = setting(False, "--gblur", help="gaussian blur", needs=HMSA)
    bblur: bool = setting(False, "--bblur", help="bilateral blur (wins over --gblur)", needs=HMSA)
    rand_augment: tuple[int, int] | None = setting(
        None, "--rand_augment", bounds=Bounds(0, 100), help="RandAugment N,M", needs=HMSA
    )
    full_crop_training: bool = setting(
        False, "--full_crop_training", help="crop size is the image size", needs=HMSA
    )
    translate_aug_fix: bool = setting(
        False, "--translate_aug_fix", help="small images slide inside the crop", needs=HMSA
    )
    map_crop_val: bool = setting(
        False, "--map_crop_val", help="validation: square of --pre_size or 1536 px", inherited=True
    )
    augmentation: str = setting(
        "hmsa", "--augmentation", choices=("hmsa", "mmseg"), help="which pipeline trains"
    )
    img_scale: tuple[int, int] = setting(
        (2048, 512),
        "--img_scale",
        parse=box,
        help="mmseg: LONG,SHORT box of ratio 1, px",
        needs=MMSEG,
    )
    ratio_range: tuple[float, float] = setting(
        (0.5, 2.0), "--ratio_range", bounds=Bounds(0, 16), help="mmseg: random ratio", needs=MMSEG
    )
    cat_max_ratio: float = setting(
        0.75,
        "--cat_max_ratio",
        bounds=SHARE,
        help="mmseg: largest class share of a crop",
        needs=MMSEG,
    )
    test_scale: tuple[int, int] | None = setting(
        None,
        "--test_scale",
        parse=box,
        help="validation: fit images into a box",
        metavar="LONG,SHORT",
        inherited=True,
    )
    size_divisor: int = setting(
        1,
        "--size_divisor",
        bounds=PIXELS,
        help="--test_scale: round sides up to it",
        needs=Need(lambda s: s.augmentation.test_scale is not None, "--test_scale"),
        inherited=True,
    )
    dump_augmentation_images: bool = setting(
        False,
        "--dump_augmentation_images",
        help="write augmented images, stop",
        task=BOTH,
        resume=UNRELATED,
    )
