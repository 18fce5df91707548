# SPDX-License-Identifier: Apache-2.0
"""From flags to the inference procedure of an evaluation, and its words for results.json."""

from __future__ import annotations

import argparse
import functools
from typing import Any

from torch import nn

from config import ModelConfig, UserError
from datasets.views import make_resizer
from engine import predict
from engine.hanet_procedure import hanet_infer, hanet_protocol
from engine.refinement import refined
from network.height_gates import attention_blocks, record_gates
from network.inference import compiled, prepare_for_inference


def prepared(args: argparse.Namespace, net: nn.Module) -> nn.Module:
    """The network as evaluation runs it: batch norm folded, compiled when asked."""
    net = prepare_for_inference(net)
    return compiled(net) if args.compile else net


def input_scales(args: argparse.Namespace) -> tuple[float, ...]:
    """The scales that the image is resized to in evaluation; none for the image as it is."""
    if args.multi_scale_inference:
        return (args.default_scale, *args.extra_scales)
    return () if args.default_scale == 1 else (args.default_scale,)


def build_infer(args: argparse.Namespace, net: nn.Module, return_all: bool) -> predict.Infer:
    """The inference procedure the flags describe, as one callable."""
    whole_only = args.slide_crop or args.inference_mode != "whole"
    refine = refined if args.refine_boundaries else None
    infer = predict.whole(net, return_all and not whole_only, refine)
    if args.no_pos_dataset:
        infer = predict.without_rows(infer)
    if args.inference_mode != "whole":
        return hanet_infer(args, infer)
    if args.slide_crop:
        infer = predict.slide(infer, args.slide_crop, args.slide_stride, args.bs_window)
        if args.slide_pad:
            infer = predict.padded(infer, args.slide_crop)
    scales = input_scales(args)
    if scales:
        resize = make_resizer(args.test_scale, args.size_divisor) if args.test_scale else None
        infer = predict.multi_scale(infer, scales, args.average, resize)
    return predict.flip(infer, args.average) if args.do_flip else infer


def with_gates(args: argparse.Namespace, net: nn.Module, infer: predict.Infer) -> predict.Infer:
    """`infer` whose results also hold the height gates of `net`, from one pass of the whole image.

    The pass is one of its own, at scale 1, whatever windows, scales and mirrored copies `infer`
    goes through.
    """
    if not attention_blocks(net):
        raise UserError(
            f"--dump_attention: {args.arch} has no HANet block; --hanet 1 1 1 1 0 with an arch "
            "that takes it, or leave the flag out"
        )
    gates: predict.Infer = functools.partial(record_gates, net)
    return predict.Beside(infer, predict.without_rows(gates) if args.no_pos_dataset else gates)


def protocol(args: argparse.Namespace, model: ModelConfig) -> dict[str, Any]:
    """How the scores were obtained, for results.json and the report."""
    return {
        "dataset": args.dataset,
        "split": args.eval or "val",
        "arch": args.arch,
        "snapshot": args.snapshot,
        "n_scales": model.n_scales,
        "flip": args.do_flip,
        "averaged_scales": input_scales(args) or None,
        "average": args.average,
        "slide_crop": args.slide_crop,
        "slide_stride": args.slide_stride,
        "slide_pad": args.slide_pad,
        "refine_boundaries": args.refine_boundaries,
        "test_scale": args.test_scale,
        "size_divisor": args.size_divisor,
        "pre_size": args.pre_size,
        "distance_crop": args.eval_distance_crop,
        "boundary_labels": args.eval_f1_labels,
        "precision": args.precision,
        **({"positions": False} if args.no_pos_dataset else {}),
        **hanet_protocol(args),
    }
