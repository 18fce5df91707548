# SPDX-License-Identifier: Apache-2.0
"""What an evaluation writes besides its scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from settings.declare import UNRELATED, Bounds, Group, Need, setting
from settings.needs import EVALUATES, LABELLED, OUTLINES
from settings.ranges import PIXELS, POSITIVE_COUNT, POSITIVE_RATE, PROCESS, SINCE

TOP_CLASSES = Bounds(0, 255)
DILATION = Bounds(0, 4096)  # pixels
# What writes each image into a folder of its own kind, and, of the others, what draws pictures.
TREE_FLAGS = ("dump_ids", "dump_scores", "dump_masks", "dump_color", "dump_composite")
PICTURE_FLAGS = ("dump_assets", "dump_attention", "dump_all_images")
HILA_THRESHOLD = 0.00088  # of the boundary F-score, share of the diagonal: 3 px at 1024x2048


def names_problem(text: str) -> str | None:
    """What is wrong with a comma list of class names; the names are checked with the classes."""
    return (
        None if all(part.strip() for part in text.split(",")) else "class names wanted, CLASS,..."
    )


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """What an evaluation scores and writes."""

    GROUP: ClassVar[Group] = Group(title="outputs", resume=UNRELATED, decides=False)

    log_msinf_to_tb: bool = setting(
        False,
        "--log_msinf_to_tb",
        help="write scores and previews of --multi_scale_inference to TensorBoard",
        needs=Need(
            lambda s: s.inference.multi_scale_inference and s.inference.eval,
            "--multi_scale_inference, in an evaluation",
        ),
    )
    dump_assets: bool = setting(
        False, "--dump_assets", help="write pictures of attention, confidence and errors"
    )
    dump_attention: bool = setting(
        False, "--dump_attention", help="HANet: draw the gates over height", needs=EVALUATES
    )
    dump_all_images: bool = setting(
        False, "--dump_all_images", help="write pictures of every image, not of about ten"
    )
    eval_f1: bool = setting(
        False, "--eval_f1", help="give the boundary F-score of every class too", needs=LABELLED
    )
    eval_f1_th: tuple[float, ...] = setting(
        (0.008,),
        "--eval_f1_th",
        bounds=POSITIVE_RATE,
        help="tolerances of --eval_f1: px, or shares of the diagonal if < 1; HILA's is 0.00088",
        needs=Need(lambda s: s.outputs.eval_f1, "--eval_f1"),
    )
    eval_f1_missing: str = setting(
        "one",
        "--eval_f1_missing",
        choices=("one", "skip"),
        help="boundary scores: what a class counts that neither map of an image has",
        needs=OUTLINES,
    )
    eval_f1_labels: str = setting(
        "shifted",
        "--eval_f1_labels",
        choices=("shifted", "raw"),
        help="boundary scores: raw compares label ids that are not shifted by the zero label, as "
        "HILA published",
        needs=OUTLINES,
    )
    eval_f1_start: int = setting(
        -1,
        "--eval_f1_start",
        bounds=SINCE,
        help="as HILA's tester: boundary F and all scores of the images from N on only; -1: of all",
        metavar="N",
        needs=LABELLED,
    )
    eval_f1_step_size: int = setting(
        10000,
        "--eval_f1_step_size",
        bounds=POSITIVE_COUNT,
        help="--eval_f1_start: score so many images",
        needs=Need(lambda s: s.outputs.eval_f1_start >= 0, "--eval_f1_start N"),
    )
    mod_f1: bool = setting(
        False,
        "--mod_f1",
        help="give the boundary F-score of all classes together, 3 px (ADE20K)",
        needs=LABELLED,
    )
    eval_distance_crop: tuple[int, int] | None = setting(
        None,
        "--eval_distance_crop",
        bounds=PIXELS,
        help="score only a window around the horizon, 50 px above the centre",
        metavar=("H", "W"),
        needs=LABELLED,
    )
    dump_topn: int = setting(
        0,
        "--dump_topn",
        bounds=PROCESS,
        help="draw the N worst images of each class",
        needs=LABELLED,
    )
    dump_topn_all: bool = setting(
        False,
        "--dump_topn_all",
        help="--dump_topn: draw attention and single-scale maps too",
        needs=Need(lambda s: s.outputs.dump_topn, "--dump_topn N"),
    )
    dump_for_submission: bool = setting(
        False,
        "--dump_for_submission",
        help="write raw ids for a benchmark server, checked and zipped",
    )
    dump_for_auto_labelling: bool = setting(
        False,
        "--dump_for_auto_labelling",
        help="write raw ids and confidences, to train on as auto-labelled images",
    )
    dump_images: bool = setting(
        False,
        "--dump_images",
        help="draw four pictures per image as HANet: rgb, pred, compose and diff",
        needs=EVALUATES,
    )
    dump_ids: str | None = setting(
        None,
        "--dump_ids",
        choices=("train", "raw"),
        help="write PNG of class ids to ids/: train counts classes from 0, raw are those of the "
        "label files",
        needs=EVALUATES,
    )
    dump_scores: bool = setting(
        False,
        "--dump_scores",
        help="write probabilities of the classes to scores/, float16 in .npz",
        needs=EVALUATES,
    )
    top_scores: int = setting(
        0,
        "--top_scores",
        bounds=TOP_CLASSES,
        help="--dump_scores: of the N most probable classes of each pixel, with their ids; 0: all",
        needs=Need(lambda s: s.outputs.dump_scores, "--dump_scores"),
    )
    dump_masks: str | None = setting(
        None,
        "--dump_masks",
        check=names_problem,
        help="write a mask per image and class to masks/CLASS/, e.g. sky,car",
        metavar="CLASS,...",
        needs=EVALUATES,
    )
    mask_dilate: int = setting(
        0,
        "--mask_dilate",
        bounds=DILATION,
        help="--dump_masks: enlarge the masks by so many pixels",
        needs=Need(lambda s: s.outputs.dump_masks, "--dump_masks CLASS,..."),
    )
    dump_color: bool = setting(
        False,
        "--dump_color",
        help="write predictions in the colours of the classes to color/",
        needs=EVALUATES,
    )
    dump_composite: bool = setting(
        False,
        "--dump_composite",
        help="write images under the colours of the classes to composite/",
        needs=EVALUATES,
    )
