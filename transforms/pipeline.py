# SPDX-License-Identifier: Apache-2.0
"""The published order of the transforms, for training and for validation."""

from __future__ import annotations

from typing import Literal

from transforms.distortion import PhotometricDistortion
from transforms.joint import (
    PLAIN_CROP,
    PLAIN_SCALE,
    CenterCropPad,
    CropRules,
    Enlarge,
    HorizontalFlip,
    RandomRotate,
    RandomScale,
    RandomSizeAndCrop,
    ResizeHeight,
    ScaleLongEdge,
)
from transforms.mmseg import Box, CornerPad, FitImage, MixedCrop, RatioResize
from transforms.photometric import BilateralBlur, ColorJitter, GaussianBlur
from transforms.randaugment import RandAugment
from transforms.sample import Compose, Transform

Blur = Literal["gauss", "bilateral"]
SQUARE = 1536  # side of the published Mapillary validation, pixels


def train_pipeline(
    *,
    crop_size: tuple[int, int],
    ignore_label: int,
    scale: RandomScale = PLAIN_SCALE,
    crop: CropRules = PLAIN_CROP,
    rotate: float = 0.0,
    rand_augment: tuple[int, int] | None = None,
    color_aug: float = 0.25,
    blur: Blur | None = None,
) -> Compose:
    """Transforms of the training set, in the published order.

    crop_size: (H, W) of the result unless `crop` says otherwise. rotate: largest angle in degrees.
    rand_augment: (N, M). color_aug: strength of the colour jitter, 0 disables it.
    """
    chain: list[Transform] = [
        RandomSizeAndCrop(crop_size, ignore_label, scale, crop),
        HorizontalFlip(),
    ]
    if rotate > 0:
        chain.append(RandomRotate(rotate, ignore_label))
    if rand_augment is not None:
        chain.append(RandAugment(*rand_augment, ignore_label=ignore_label))
    if color_aug > 0:
        chain.append(ColorJitter(color_aug))
    if blur is not None:
        chain.append(BilateralBlur() if blur == "bilateral" else GaussianBlur())
    return Compose(chain)


def mmseg_train_pipeline(
    *,
    crop_size: tuple[int, int],
    ignore_label: int,
    img_scale: Box,
    ratio_range: tuple[float, float] = (0.5, 2.0),
    cat_max_ratio: float = 0.75,
) -> Compose:
    """Transforms of the training set in the order of the mmsegmentation recipes.

    img_scale: (long, short) in pixels that the ratio refers to. cat_max_ratio: share of one
    class from which a crop is drawn again. crop_size: (H, W) of the result.
    """
    chain: list[Transform] = [
        RatioResize(img_scale, ratio_range),
        MixedCrop(crop_size, ignore_label, cat_max_ratio),
        HorizontalFlip(),
        PhotometricDistortion(),
        CornerPad(crop_size, ignore_label),
    ]
    return Compose(chain)


def eval_pipeline(
    *,
    ignore_label: int,
    pre_size: int | None = None,
    map_crop_val: bool = False,
    test_scale: Box | None = None,
    size_divisor: int = 1,
    enlarge: float = 1.0,
) -> Compose:
    """Transforms of the validation set; none by default.

    pre_size scales the long edge; with `map_crop_val` it is the side of a square (1536 if it is
    not given) that the image, resized to this height, is centred in. enlarge: factor of both
    sides. Scores are then those of the resized image.
    test_scale: (long, short), a box that the image alone is fitted into, then brought to the
    next multiple of size_divisor; predictions return to the size of the file, where they are
    scored. Raises ValueError for both kinds at once.
    """
    if test_scale is not None:
        if pre_size is not None:
            raise ValueError("--test_scale and --pre_size exclude each other")
        return Compose([FitImage(test_scale, size_divisor)])
    if map_crop_val:
        side = pre_size or SQUARE
        return Compose([ResizeHeight(side), CenterCropPad(side, ignore_label)])
    if pre_size is not None:
        return Compose([ScaleLongEdge(pre_size)])
    return Compose([Enlarge(enlarge)] if enlarge != 1 else [])
