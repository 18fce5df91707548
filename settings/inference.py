# SPDX-License-Identifier: Apache-2.0
"""Evaluation: images and the inference procedure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from settings.convert import crop_size, most_pixels, stride
from settings.declare import BOTH, SEGMENT, UNRELATED, Bounds, Group, Need, setting
from settings.needs import (
    AVERAGES,
    EVALUATES,
    POOLING,
    SLIDES,
    SLIDING,
    WHOLE,
    WINDOWS,
    can_cut,
)
from settings.ranges import BATCH, COUNT, POSITIVE_COUNT, SCALES

EVAL_MODES = ("val", "trn", "folder", "test", "train_extra")


@dataclass(frozen=True, kw_only=True)
class InferenceSettings:
    """Which images are evaluated, and how a network is asked about one."""

    GROUP: ClassVar[Group] = Group(title="evaluation")

    eval: str | None = setting(
        None,
        "--eval",
        choices=EVAL_MODES,
        help="evaluate a split or a folder instead of training",
        task=BOTH,
        resume=UNRELATED,
    )
    eval_folder: str | None = setting(
        None,
        "--eval_folder",
        path=True,
        help="images for --eval folder, or one, or a list of them",
        metavar="DIR|FILE",
        needs=Need(lambda s: s.inference.eval == "folder", "--eval folder"),
        resume=UNRELATED,
    )
    no_metrics: bool = setting(
        False,
        "--no_metrics",
        help="write dumps only: read no label, give no scores",
        resume=UNRELATED,
        decides=False,
    )
    do_flip: bool = setting(
        False, "--do_flip", help="average predictions with those of the mirrored image"
    )
    multi_scale_inference: bool = setting(
        False,
        "--multi_scale_inference",
        help="average predictions over --default_scale and --extra_scales",
    )
    extra_scales: tuple[float, ...] = setting(
        (0.5, 2.0),
        "--extra_scales",
        bounds=SCALES,
        help="further scales of --multi_scale_inference",
        needs=Need(lambda s: s.inference.multi_scale_inference, "--multi_scale_inference"),
    )
    default_scale: float = setting(
        1.0, "--default_scale", bounds=SCALES, help="scale at which images are evaluated"
    )
    average: Literal["logits", "probs"] = setting(
        "logits",
        "--average",
        choices=("logits", "probs"),
        help="what --do_flip and --multi_scale_inference average",
        needs=Need(
            lambda s: s.inference.do_flip or s.inference.multi_scale_inference,
            "--do_flip or --multi_scale_inference",
        ),
    )
    slide_crop: tuple[int, int] | None = setting(
        None,
        "--slide_crop",
        parse=crop_size,
        help="evaluate in windows of N or H,W pixels",
        needs=Need(
            lambda s: s.inference.slide_stride, "--slide_stride N, e.g. three quarters of it"
        ),
        inherited=True,
    )
    slide_stride: tuple[int, int] | None = setting(
        None,
        "--slide_stride",
        parse=stride,
        help="pixels from one window to the next, N or H,W",
        needs=WINDOWS,
        inherited=True,
    )
    slide_pad: bool = setting(
        False,
        "--slide_pad",
        help="--slide_crop: zeros around images smaller than a window",
        needs=WINDOWS,
        inherited=True,
    )
    bs_window: int = setting(
        4,
        "--bs_window",
        bounds=BATCH,
        help="windows of an image in one forward pass",
        needs=Need(
            lambda s: s.inference.slide_crop or s.inference.inference_mode == SLIDING,
            "--slide_crop N or --inference_mode sliding",
        ),
        decides=False,
    )
    max_pixels: int | None = setting(
        None,
        "--max_pixels",
        parse=most_pixels,
        help="evaluate images of more pixels in windows; none: never; by default what fits into "
        "the free memory",
        metavar="N|none",
        needs=Need(
            can_cut,
            "images that are evaluated whole, at their own size: no --slide_crop, "
            "no --test_scale, no --inference_mode",
        ),
        task=SEGMENT,
        resume=UNRELATED,
    )
    refine_boundaries: bool = setting(
        False,
        "--refine_boundaries",
        help="boundary pixels take the scores one step inside; for UN-EPT and networks "
        "trained with --dt_offset_wt",
        needs=EVALUATES,
        resume=UNRELATED,
    )
    inference_mode: str | None = setting(
        None,
        "--inference_mode",
        "-im",
        choices=(WHOLE, SLIDING, POOLING),
        help="whole: one pass; HANet's average over --scales in windows (sliding) or of whole "
        "images (pooling)",
    )
    scales: tuple[float, ...] = setting(
        (0.5, 1.0, 2.0),
        "--scales",
        bounds=SCALES,
        help="scales of --inference_mode sliding and pooling",
        needs=AVERAGES,
    )
    no_flip: bool = setting(
        False,
        "--no_flip",
        help="--inference_mode sliding and pooling without the mirrored image",
        needs=AVERAGES,
    )
    sliding_overlap: float = setting(
        1 / 3,
        "--sliding_overlap",
        bounds=Bounds(0, 0.95),
        help="--inference_mode sliding: share of a window that the next one sees too",
        needs=SLIDES,
    )
    sliding_official: bool = setting(
        False,
        "--sliding_official",
        help="--inference_mode sliding: count overlaps as published",
        needs=SLIDES,
    )
    split_count: int = setting(
        1,
        "--split_count",
        bounds=POSITIVE_COUNT,
        help="number of parts that the images are divided into, of which one is evaluated",
        needs=EVALUATES,
        idle=True,
        resume=UNRELATED,
        decides=False,
    )
    split_index: int = setting(
        0,
        "--split_index",
        bounds=COUNT,
        help="number of the part of --split_count to evaluate, from 0",
        needs=EVALUATES,
        idle=True,
        resume=UNRELATED,
        decides=False,
    )
