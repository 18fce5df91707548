# SPDX-License-Identifier: Apache-2.0
"""From settings to HANet's own inference procedure, and its entries in the protocol."""

from __future__ import annotations

from typing import Any

from engine.predict import Infer
from engine.windows_hanet import PUBLISHED_TILE, hanet_pooling, hanet_sliding
from settings import Settings


def hanet_infer(settings: Settings, infer: Infer) -> Infer:
    """HANet's average over scales and mirrored images, in windows or of whole images."""
    inference = settings.inference
    flip = not inference.no_flip
    if inference.inference_mode == "pooling":
        return hanet_pooling(infer, inference.scales, flip=flip)
    return hanet_sliding(
        infer,
        inference.scales,
        tile=_tile(settings),
        overlap=inference.sliding_overlap,
        flip=flip,
        batch_windows=inference.bs_window,
        official=inference.sliding_official,
    )


def _tile(settings: Settings) -> tuple[int, int]:
    """Sides of a window at scale 1: --crop_size, which defaults to 1024 in an evaluation."""
    if settings.inference.eval and "crop_size" not in settings.given:
        return PUBLISHED_TILE
    return settings.augmentation.crop_size


def hanet_protocol(settings: Settings) -> dict[str, Any]:
    """The entries of the protocol that this procedure changes; none with --inference_mode whole."""
    inference = settings.inference
    if inference.inference_mode == "whole":
        return {}
    values: dict[str, Any] = {
        "inference_mode": inference.inference_mode,
        "flip": not inference.no_flip,
        "averaged_scales": inference.scales,
        "average": "probs" if inference.inference_mode == "pooling" else "logits",
    }
    if inference.inference_mode == "sliding":
        count = "published" if inference.sliding_official else "true"
        overlap = round(inference.sliding_overlap, 4)
        values |= {"tile": _tile(settings), "sliding_overlap": overlap, "overlap_count": count}
    return values
