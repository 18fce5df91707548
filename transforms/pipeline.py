# SPDX-License-Identifier: Apache-2.0
"""The published order of the transforms, for training and for validation."""

from __future__ import annotations

from typing import Literal

from transforms.joint import (
    CenterCropPad,
    HorizontalFlip,
    RandomSizeAndCrop,
    ResizeHeight,
    ScaleLongEdge,
)
from transforms.photometric import BilateralBlur, ColorJitter, GaussianBlur
from transforms.randaugment import RandAugment
from transforms.resample import Resample
from transforms.sample import Compose, Transform

Blur = Literal["gauss", "bilateral"]


def train_pipeline(
    *,
    crop_size: tuple[int, int],
    ignore_label: int,
    scale_min: float = 0.5,
    scale_max: float = 2.0,
    pre_size: int | None = None,
    color_aug: float = 0.25,
    blur: Blur | None = None,
    full_crop: bool = False,
    translate_aug_fix: bool = False,
    rand_augment: tuple[int, int] | None = None,
    hflip: float = 0.5,
    resample: Resample = "fast",
) -> Compose:
    """Transforms of the training set, in the published order.

    crop_size: (H, W) of the result; `full_crop` takes the size of each image instead.
    pre_size: long edge, pixels, that the random scale of scale_min..scale_max refers to.
    color_aug: strength of the colour jitter, 0 disables it. rand_augment: (N, M).
    resample: filter of the image, see `transforms.resample`.
    """
    chain: list[Transform] = [
        RandomSizeAndCrop(
            crop_size,
            ignore_label,
            scale_min=scale_min,
            scale_max=scale_max,
            pre_size=pre_size,
            full_crop=full_crop,
            slide_small=translate_aug_fix,
            resample=resample,
        ),
        HorizontalFlip(hflip),
    ]
    if rand_augment is not None:
        chain.append(RandAugment(*rand_augment, ignore_label=ignore_label))
    if color_aug > 0:
        chain.append(ColorJitter(color_aug))
    if blur is not None:
        chain.append(BilateralBlur() if blur == "bilateral" else GaussianBlur())
    return Compose(chain)


def eval_pipeline(
    *, ignore_label: int, pre_size: int | None = None, map_crop_val: bool = False
) -> Compose:
    """Transforms of the validation set; none without `pre_size`.

    pre_size scales the long edge; with `map_crop_val` it is the side of a square that the image,
    resized to this height, is centred in. Scores are then those of the resized picture.
    Raises ValueError for `map_crop_val` without `pre_size`.
    """
    if pre_size is None:
        if map_crop_val:
            raise ValueError("--map_crop_val needs --pre_size, the side of the square")
        return Compose([])
    if map_crop_val:
        return Compose([ResizeHeight(pre_size), CenterCropPad(pre_size, ignore_label)])
    return Compose([ScaleLongEdge(pre_size)])
