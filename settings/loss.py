# SPDX-License-Identifier: Apache-2.0
"""The training loss."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import ClassVar, Literal

from runtime.limits import brief
from settings.convert import listed
from settings.declare import UNRELATED, Bounds, Group, Need, setting
from settings.needs import IMAGE_WEIGHTS, PLAIN_LOSS, RELAXES, TRAINS
from settings.ranges import CLASS_IDS, FACTOR, FRACTION, POSITIVE_COUNT, SINCE

AUTO = "auto"  # --class_weights: by the pixels of the training labels
WEIGHTS = listed(float, FACTOR)  # the other form of --class_weights
TRAINS_PLAIN = Need(
    lambda s: PLAIN_LOSS.holds(s) and TRAINS.holds(s), f"training with {PLAIN_LOSS.text}"
)


def class_weights(text: str) -> str:
    """`auto`, or numbers of at least 0, not all 0; argparse.ArgumentTypeError for others."""
    if text == AUTO:
        return text
    try:
        weights = WEIGHTS(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{AUTO} or numbers wanted: {error}") from None
    if not any(weights):
        raise argparse.ArgumentTypeError(f"{brief(text)}: one weight above 0 at least is wanted")
    return text


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Which terms the training loss has."""

    GROUP: ClassVar[Group] = Group(title="loss")

    rmi_loss: bool = setting(
        False, "--rmi_loss", help="region mutual information loss; may be negative"
    )
    img_wt_loss: bool = setting(
        False, "--img_wt_loss", help="class-weighted cross entropy, weights per batch"
    )
    batch_weighting: bool = setting(
        False,
        "--batch_weighting",
        help="with LOSS.HANET_WEIGHTS: class weights of the batch instead of each image",
        needs=IMAGE_WEIGHTS,
    )
    jointwtborder: bool = setting(
        False,
        "--jointwtborder",
        help="boundary label relaxation: near a boundary each class around counts as right",
    )
    strict_bdr_cls: tuple[int, ...] | None = setting(
        None,
        "--strict_bdr_cls",
        bounds=CLASS_IDS,
        empty=True,
        help="--jointwtborder: train ids of classes without relaxation",
        needs=Need(lambda s: s.loss.jointwtborder, "--jointwtborder"),
        idle=(),
    )
    rlx_off_epoch: int = setting(
        -1,
        "--rlx_off_epoch",
        bounds=SINCE,
        help="last epoch with boundary label relaxation, -1: it never ends",
        needs=RELAXES,
        idle=True,
    )
    rlx_off_iter: int = setting(
        -1,
        "--rlx_off_iter",
        bounds=SINCE,
        help="iteration that ends boundary label relaxation, -1: never",
        needs=RELAXES,
        excludes=("rlx_off_epoch",),
        idle=True,
    )
    wt_bound: float = setting(
        1.0,
        "--wt_bound",
        "-wb",
        bounds=FACTOR,
        help="class weights of --img_wt_loss and --jointwtborder lie between 1 and 1 + this",
        needs=IMAGE_WEIGHTS,
        idle=True,
    )
    cls_wt_loss: bool = setting(
        False,
        "--cls_wt_loss",
        help="cross entropy with HANet's class weights of Cityscapes",
        excludes=("img_wt_loss", "jointwtborder", "rmi_loss"),
    )
    class_weights: str | None = setting(
        None,
        "--class_weights",
        parse=class_weights,
        help="weights of the classes in plain cross entropy: auto, from the pixels of the training "
        "labels, or one number per class",
        metavar="auto|W,...",
        needs=TRAINS_PLAIN,
        excludes=("cls_wt_loss",),
    )
    dt_offset_wt: float = setting(
        0.0, "--dt_offset_wt", bounds=FACTOR, help="weight of boundary supervision, 0: none"
    )
    dt_offset_source: str = setting(
        "compute",
        "--dt_offset_source",
        choices=("compute", "files"),
        help="boundary maps: from labels while training, or written by tools.dt_offset",
        needs=Need(lambda s: s.loss.dt_offset_wt > 0, "--dt_offset_wt above 0"),
    )
    loss_average: Literal["valid", "all"] = setting(
        "valid",
        "--loss_average",
        choices=("valid", "all"),
        help="cross entropy: mean over labelled pixels, or over all: ignored ones then count as 0",
        needs=PLAIN_LOSS,
    )
    ohem_threshold: float | None = setting(
        None,
        "--ohem_threshold",
        bounds=FRACTION,
        help="train only on pixels whose class has a probability below this",
        needs=PLAIN_LOSS,
    )
    ohem_min_kept: int = setting(
        100000,
        "--ohem_min_kept",
        bounds=POSITIVE_COUNT,
        help="--ohem_threshold: train on at least so many pixels per image",
        needs=Need(lambda s: s.loss.ohem_threshold is not None, "--ohem_threshold T"),
    )
    log_accuracy: bool = setting(
        False,
        "--log_accuracy",
        help="log the percentage of all pixels that are right",
        resume=UNRELATED,
    )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights and variants of the terms of the loss: the section `LOSS`."""

    GROUP: ClassVar[Group] = Group(title="loss")

    OCR_ALPHA: float = setting(
        0.4,
        "--ocr_alpha",
        "--aux_weight",
        bounds=Bounds(0, 100),
        help="weight of the auxiliary loss: OCR's, or that of an auxiliary head",
    )
    OCR_AUX_RMI: bool = setting(
        False, "--ocr_aux_loss_rmi", help="--rmi_loss for the auxiliary prediction too"
    )
    SUPERVISED_MSCALE_WT: float = setting(
        0.0,
        "--supervised_mscale_loss_wt",
        bounds=Bounds(0, 100),
        help="weight of the loss on the prediction of each single scale",
    )
    BOUNDARY_WEIGHTS: tuple[float, float, float, float] = setting(
        (0.8, 5.0, 0.6, 1.0),
        bounds=Bounds(0, 1000),
        help="with --dt_offset_wt: weights of the main loss, and, times that flag, of the "
        "boundary mask, the direction to the inside, and the scores moved along it",
        needs=Need(lambda s: s.loss.dt_offset_wt > 0, "--dt_offset_wt above 0"),
    )
    BOUNDARY_OFFICIAL: bool = setting(
        False,
        help="--dt_offset_wt as published: void and padding are supervised as boundaries, angles "
        "stay when the image is mirrored",
        needs=Need(lambda s: s.loss.dt_offset_wt > 0, "--dt_offset_wt above 0"),
    )
    CLASS_WEIGHTS: tuple[float, ...] | None = setting(
        None,
        bounds=Bounds(0, 1000000.0),
        some_above_zero=True,
        help="weights of plain cross entropy, one per class",
    )
    HANET_WEIGHTS: bool = setting(
        False,
        help="--img_wt_loss: class weights of each image unless with --batch_weighting; "
        "--jointwtborder: mean over the images",
    )
    IMAGE_MEAN: bool = setting(
        False,
        help="--img_wt_loss: mean over the images of a batch; published: sum",
        needs=Need(
            lambda s: s.loss.img_wt_loss and not s.loss.rmi_loss,
            "--img_wt_loss, or with --rmi_loss",
        ),
    )
    HISTOGRAM_OFFICIAL: bool = setting(
        False,
        help="--img_wt_loss as published: an ignore label K is counted as class K-1",
        needs=Need(
            lambda s: s.loss.img_wt_loss and not s.loss.rmi_loss,
            "--img_wt_loss, or with --rmi_loss",
        ),
    )
    BATCH_BORDER_WEIGHTS: bool = setting(
        False,
        help="--jointwtborder as published: every image of a batch is divided by the border "
        "weights of all of them",
    )
