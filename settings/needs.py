# SPDX-License-Identifier: Apache-2.0
"""Conditions that several settings share: without them they have no effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from datasets.table import TABLE, Row, names
from settings.declare import Need
from settings.kinds import schedule_reading

if TYPE_CHECKING:
    from settings.tree import Settings

WHOLE, SLIDING, POOLING = "whole", "sliding", "pooling"  # --inference_mode
COARSE_FLAGS = "--coarse_boost_classes or --only_coarse"


def with_sets(holds: Callable[[Row], object]) -> Need:
    """A data set whose row has what a setting needs."""
    return Need(lambda s: holds(TABLE[s.data.dataset]), f"--dataset {' or '.join(names(holds))}")


def is_scored(settings: Settings) -> bool:
    """Whether this is an evaluation that reads labels."""
    inference = settings.inference
    return inference.eval in ("val", "trn", "test") and not inference.no_metrics


def reads_coarse(settings: Settings) -> bool:
    """Whether training draws from coarse images too."""
    return bool(settings.data.coarse_boost_classes) or settings.data.only_coarse


def reads_extras(settings: Settings) -> bool:
    """Whether training draws from coarse images or video frames too."""
    return reads_coarse(settings) or settings.data.maxSkip > 0


def stops_extras(settings: Settings) -> bool:
    """Whether --max_cu_epoch ends draws of extra images, or is too late to end anything.

    How many epochs --max_iter makes is not known here.
    """
    schedule, end = settings.schedule, settings.data.max_cu_epoch
    late = schedule.max_iter is not None or end >= schedule.max_epoch
    return reads_extras(settings) or late


def has_plain_loss(settings: Settings) -> bool:
    """Whether training minimises plain cross entropy."""
    loss = settings.loss
    return not (loss.rmi_loss or loss.img_wt_loss or loss.jointwtborder)


def can_cut(settings: Settings) -> bool:
    """Whether large images of this evaluation may be cut: nothing else cuts or resizes them."""
    inference, sizes = settings.inference, settings.augmentation
    is_cut = inference.slide_crop or inference.inference_mode in (SLIDING, POOLING)
    return bool(inference.eval) and not is_cut and sizes.test_scale is None


TRAINS = Need(lambda s: not s.inference.eval, "training")
EVALUATES = Need(lambda s: s.inference.eval, "--eval")
LABELLED = Need(is_scored, "labels: --eval val, trn or test, no --no_metrics")
SNAPSHOT = Need(lambda s: s.network.snapshot, "--snapshot")
FROM_SNAPSHOT = Need(lambda s: s.inference.eval and s.network.snapshot, "--eval and --snapshot")
HMSA = Need(lambda s: s.augmentation.augmentation == "hmsa", "--augmentation hmsa")
MMSEG = Need(lambda s: s.augmentation.augmentation == "mmseg", "--augmentation mmseg")
IMAGE_WEIGHTS = Need(
    lambda s: s.loss.img_wt_loss or s.loss.jointwtborder, "--img_wt_loss or --jointwtborder"
)
PLAIN_LOSS = Need(
    has_plain_loss, "plain cross entropy: no --rmi_loss, --img_wt_loss or --jointwtborder"
)
STARTS_AGAIN = schedule_reading("rlx_off_epoch")
RELAXES = Need(
    lambda s: s.loss.jointwtborder or STARTS_AGAIN.holds(s),
    f"--jointwtborder or {STARTS_AGAIN.text}",
)
OWN_RATE = Need(lambda s: s.hanet.hanet_lr > 0, "--hanet_lr above 0")
WINDOWS = Need(lambda s: s.inference.slide_crop, "--slide_crop N")
AVERAGES = Need(
    lambda s: s.inference.inference_mode in (SLIDING, POOLING),
    "--inference_mode sliding or pooling",
)
SLIDES = Need(lambda s: s.inference.inference_mode == SLIDING, "--inference_mode sliding")
OUTLINES = Need(lambda s: s.outputs.eval_f1 or s.outputs.mod_f1, "--eval_f1 or --mod_f1")
COARSE_SETS = with_sets(lambda row: row.coarse)
DRAWS_COARSE = Need(
    lambda s: COARSE_SETS.holds(s) and s.data.class_uniform_pct > 0,
    f"{COARSE_SETS.text}, and a --class_uniform_pct above 0",
)
READS_COARSE = Need(reads_coarse, COARSE_FLAGS)
STOPS_EXTRAS = Need(stops_extras, f"{COARSE_FLAGS} or --maxSkip")
