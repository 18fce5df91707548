# SPDX-License-Identifier: Apache-2.0
"""Flags of evaluation and of what it writes."""

from __future__ import annotations

from collections.abc import Callable

from flags.values import (
    COUNT,
    SCALES,
    batch_size,
    crop_size,
    file_name,
    inference_scale,
    listed,
    number,
    pixels,
    positive_int,
    stride,
)

MISSING = "what a class in neither map of an image counts in boundary scores"
LABELS = "raw: compare with label ids that are not shifted by the zero label, as HILA published"
REFINE = "boundary pixels take the scores one step inside; after --dt_offset_wt or UN-EPT"
START = "as HILA's tester: boundary F and all scores of the images from N on only; -1: of all"
HILA_THRESHOLD = 0.00088  # of the boundary F-score, share of the diagonal: 3 px at 1024x2048
EVAL_MODES = ("val", "trn", "folder", "test", "train_extra")


def add_evaluation(add: Callable[..., object]) -> None:
    add("--eval", choices=EVAL_MODES, help="evaluate instead of training")
    add(
        "--eval_folder",
        type=file_name,
        metavar="DIR|FILE",
        help="images for --eval folder, or one, or a list of them",
    )
    add("--do_flip", action="store_true", help="average with the mirrored image")
    add("--multi_scale_inference", action="store_true", help="average with --extra_scales")
    low, high = SCALES
    scales = listed(float, low=low, high=high)
    add("--extra_scales", type=scales, default=(0.5, 2.0), help="more scales to average")
    add("--default_scale", type=inference_scale, default=1.0, help="input scale of evaluation")
    add(
        "--average",
        default="logits",
        choices=("logits", "probs"),
        help="what --do_flip and --multi_scale_inference average",
    )
    add("--slide_crop", type=crop_size, help="evaluate in windows of N or H,W pixels")
    add("--slide_stride", type=stride, help="pixels from one window to the next, N or H,W")
    add("--slide_pad", action="store_true", help="zeros around images smaller than a window")
    add("--refine_boundaries", action="store_true", help=REFINE)
    add("--bs_window", type=batch_size, default=4, help="windows in one forward pass")
    add("--efficient_test", action="store_true", help="accepted: evaluation always streams")
    add("--log_msinf_to_tb", action="store_true", help="its scores and previews to TensorBoard")
    add("--no_metrics", action="store_true", help="dump only, read no label")
    add("--dump_assets", action="store_true", help="write attention, confidence and error maps")
    add("--dump_attention", action="store_true", help="HANet: gates over height as images")
    add("--dump_all_images", action="store_true", help="write every image, not every tenth part")
    _add_outlines(add)
    add(
        "--dump_topn",
        type=number(int, 0, 10**6),
        default=0,
        help="pictures of N worst images a class",
    )
    add("--dump_topn_all", action="store_true", help="with attention and single-scale maps")
    add("--dump_for_submission", action="store_true", help="raw ids, checked and zipped")
    add("--dump_for_auto_labelling", action="store_true", help="raw ids and probabilities")


def _add_outlines(add: Callable[..., object]) -> None:
    add("--eval_f1", action="store_true", help="boundary F-score of every class too")
    add(
        "--eval_f1_th",
        type=listed(float, low=0, high=1000, open_low=True),
        default=(0.008,),
        help="its tolerances: px, or shares of the diagonal if < 1; HILA's is 0.00088",
    )
    add("--eval_f1_missing", default="one", choices=("one", "skip"), help=MISSING)
    add("--eval_f1_labels", default="shifted", choices=("shifted", "raw"), help=LABELS)
    add("--eval_f1_start", type=number(int, -1, COUNT), default=-1, metavar="N", help=START)
    add("--eval_f1_step_size", type=positive_int, default=10000, help="how many images from there")
    add("--mod_f1", action="store_true", help="boundary F of all classes together, 3 px (ADE20K)")
    add(
        "--eval_distance_crop",
        type=pixels,
        nargs=2,
        metavar=("H", "W"),
        help="score only a window around the horizon, 50 px above the centre",
    )
