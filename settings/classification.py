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
        help="what the network predicts: maps of classes, or one class per image",
        inherited=True,
        task=BOTH,
        resume=REFUSED,
    )
    img_size: int = setting(
        224,
        "--img_size",
        bounds=Bounds(32, 4096),
        help="side of the square input image, px",
        inherited=True,
    )
    crop_pct: float = setting(
        0.9,
        "--crop_pct",
        bounds=Bounds(0.1, 1),
        help="evaluation: --img_size / short side of the resized image",
        inherited=True,
    )
    interpolation: str = setting(
        "bicubic",
        "--interpolation",
        choices=("bilinear", "bicubic"),
        help="evaluation: how images are resized",
        inherited=True,
    )
    scale: tuple[float, float] = setting(
        (0.08, 1.0),
        "--scale",
        bounds=EXPONENT,
        help="SMALLEST,LARGEST area of random crops, share of the image",
    )
    ratio: tuple[float, float] = setting(
        (0.75, 4 / 3),
        "--ratio",
        bounds=EXPONENT,
        help="SMALLEST,LARGEST width / height of random crops",
    )
    hflip: float = setting(
        0.5, "--hflip", bounds=FRACTION, help="probability that a training image is mirrored"
    )
    vflip: float = setting(
        0.0,
        "--vflip",
        bounds=FRACTION,
        help="probability that a training image is turned upside down",
    )
    color_jitter: float = setting(
        0.4, "--color_jitter", bounds=EXPONENT, help="strength of colour jitter, with --aa none"
    )
    aa: str = setting(
        "rand-m9-mstd0.5-inc1",
        "--aa",
        help="augmentation policy in timm's spelling, or none",
        metavar="POLICY",
    )
    train_interpolation: str = setting(
        "random",
        "--train_interpolation",
        choices=("random", "bilinear", "bicubic"),
        help="how random crops are resized",
    )
    reprob: float = setting(
        0.25, "--reprob", bounds=FRACTION, help="probability that boxes of an image are erased"
    )
    remode: str = setting(
        "pixel",
        "--remode",
        choices=("const", "rand", "pixel"),
        help="content of erased boxes: black, one random colour, or random pixels",
    )
    recount: int = setting(
        1, "--recount", bounds=Bounds(1, 1000), help="largest number of erased boxes of an image"
    )
    repeated_aug: int = setting(
        1,
        "--repeated_aug",
        bounds=Bounds(1, 1000),
        help="how often a drawn image stands in an epoch, each time augmented anew",
        resume=BETWEEN_EPOCHS,
    )
    mixup: float = setting(0.8, "--mixup", bounds=RATE, help="alpha of mixup, 0 for none")
    cutmix: float = setting(1.0, "--cutmix", bounds=RATE, help="alpha of cutmix, 0 for none")
    cutmix_minmax: tuple[float, float] | None = setting(
        None,
        "--cutmix_minmax",
        bounds=EXPONENT,
        help="SMALLEST,LARGEST side of cutmix's box, share of the image; instead of --cutmix",
    )
    mixup_prob: float = setting(
        1.0, "--mixup_prob", bounds=FRACTION, help="share of batches that mixup or cutmix mixes"
    )
    mixup_switch_prob: float = setting(
        0.5,
        "--mixup_switch_prob",
        bounds=FRACTION,
        help="share of mixed batches that cutmix mixes, where both are on",
    )
    mixup_mode: str = setting(
        "batch",
        "--mixup_mode",
        choices=("batch", "pair", "elem"),
        help="what shares one mixing ratio: the batch, a pair or an element of it",
    )
    mixup_off_epoch: int = setting(
        0, "--mixup_off_epoch", bounds=COUNT, help="epoch from which on no batch is mixed, 0: never"
    )
    smoothing: float = setting(
        0.1,
        "--smoothing",
        bounds=FRACTION,
        help="label smoothing, share of the target given to all classes",
    )
    train_only: str | None = setting(
        None,
        "--train_only",
        help="train only weights whose name contains one of these texts",
        metavar="TEXT,TEXT",
        resume=REFUSED,
    )
