# SPDX-License-Identifier: Apache-2.0
"""From the flags to HANet's own inference procedure, and its entries in the protocol."""

from __future__ import annotations

import argparse
from typing import Any

from engine.predict import Infer
from engine.windows_hanet import PUBLISHED_TILE, hanet_pooling, hanet_sliding


def hanet_infer(args: argparse.Namespace, infer: Infer) -> Infer:
    """HANet's average over scales and mirrored images, in windows or of whole images."""
    flip = not args.no_flip
    if args.inference_mode == "pooling":
        return hanet_pooling(infer, args.scales, flip=flip)
    return hanet_sliding(
        infer,
        args.scales,
        tile=_tile(args),
        overlap=args.sliding_overlap,
        flip=flip,
        batch_windows=args.bs_window,
        official=args.sliding_official,
    )


def _tile(args: argparse.Namespace) -> tuple[int, int]:
    """Sides of a window at scale 1: --crop_size, which defaults to 1024 in an evaluation."""
    chosen: tuple[int, int] = args.crop_size
    return chosen if "crop_size" in args.given or not args.eval else PUBLISHED_TILE


def hanet_protocol(args: argparse.Namespace) -> dict[str, Any]:
    """The entries of the protocol that this procedure changes; none with --inference_mode whole."""
    if args.inference_mode == "whole":
        return {}
    values: dict[str, Any] = {
        "inference_mode": args.inference_mode,
        "flip": not args.no_flip,
        "averaged_scales": args.scales,
        "average": "probs" if args.inference_mode == "pooling" else "logits",
    }
    if args.inference_mode == "sliding":
        count = "published" if args.sliding_official else "true"
        overlap = round(args.sliding_overlap, 4)
        values |= {"tile": _tile(args), "sliding_overlap": overlap, "overlap_count": count}
    return values
