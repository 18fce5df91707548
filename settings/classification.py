# SPDX-License-Identifier: Apache-2.0
"""Training and evaluation of classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from settings.declare import BETWEEN_EPOCHS, BOTH, CLASSIFY, REFUSED, Bounds, Group, setting
from settings.ranges import COUNT, EXPONENT, FRACTION, RATE


@dataclass(frozen=True, kw_only=True)
class ClassificationSettings:
    """The task, and the recipe of `--task classify`."""

    GROUP: ClassVar[Group] = Group(title="classification", task=CLASSIFY)

    task: str = setting(
        "segment",
        "--task",
        choices=("segment", "classify"),
        help="what the network predicts",
        inherited=True,
        task=BOTH,
        resume=REFUSED,
    )
    img_size: int = setting(
        224,
        "--img_size",
        bounds=Bounds(32, 4096),
        help="side of the square input, px",
        inherited=True,
    )
    crop_pct: float = setting(
        0.9,
        "--crop_pct",
        bounds=Bounds(0.1, 1),
        help="evaluation: input / short side",
        inherited=True,
    )
    interpolation: str = setting(
        "bicubic",
        "--interpolation",
        choices=("bilinear", "bicubic"),
        help="evaluation",
        inherited=True,
    )
    scale: tuple[float, float] = setting(
        (0.08, 1.0), "--scale", bounds=EXPONENT, help="area of random crops"
    )
    ratio: tuple[float, float] = setting(
        (0.75, 4 / 3), "--ratio", bounds=EXPONENT, help="width / height of them"
    )
    hflip: float = setting(0.5, "--hflip", bounds=FRACTION, help="probability of mirroring")
    vflip: float = setting(
        0.0, "--vflip", bounds=FRACTION, help="probability of turning upside down"
    )
    color_jitter: float = setting(
        0.4, "--color_jitter", bounds=EXPONENT, help="strength, with --aa none"
    )
    aa: str = setting("rand-m9-mstd0.5-inc1", "--aa", help="timm policy, or none", metavar="POLICY")
    train_interpolation: str = setting(
        "random",
        "--train_interpolation",
        choices=("random", "bilinear", "bicubic"),
        help="of random crops",
    )
    reprob: float = setting(0.25, "--reprob", bounds=FRACTION, help="probability of random erasing")
    remode: str = setting(
        "pixel", "--remode", choices=("const", "rand", "pixel"), help="erased boxes get"
    )
    recount: int = setting(
        1, "--recount", bounds=Bounds(1, 1000), help="largest number of erased boxes"
    )
    repeated_aug: int = setting(
        1,
        "--repeated_aug",
        bounds=Bounds(1, 1000),
        help="augmentations of a drawn image",
        resume=BETWEEN_EPOCHS,
    )
    mixup: float = setting(0.8, "--mixup", bounds=RATE, help="alpha of mixup, 0 for none")
    cutmix: float = setting(1.0, "--cutmix", bounds=RATE, help="alpha of cutmix, 0 for none")
    cutmix_minmax: tuple[float, float] | None = setting(
        None, "--cutmix_minmax", bounds=EXPONENT, help="side of its box, instead of alpha"
    )
    mixup_prob: float = setting(
        1.0, "--mixup_prob", bounds=FRACTION, help="share of batches that are mixed"
    )
    mixup_switch_prob: float = setting(
        0.5, "--mixup_switch_prob", bounds=FRACTION, help="share of them mixed by cutmix"
    )
    mixup_mode: str = setting(
        "batch",
        "--mixup_mode",
        choices=("batch", "pair", "elem"),
        help="what shares one mixing ratio",
    )
    mixup_off_epoch: int = setting(
        0, "--mixup_off_epoch", bounds=COUNT, help="epoch that ends it, 0 never"
    )
    smoothing: float = setting(0.1, "--smoothing", bounds=FRACTION, help="label smoothing")
    train_only: str | None = setting(
        None,
        "--train_only",
        help="train only weights whose name contains one",
        metavar="TEXT,TEXT",
        resume=REFUSED,
    )
