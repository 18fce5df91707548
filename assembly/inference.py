# SPDX-License-Identifier: Apache-2.0
"""From settings to the inference procedure of an evaluation, and its words for results.json."""

from __future__ import annotations

import functools
from typing import Any

from torch import nn

from assembly.hanet_inference import hanet_infer, hanet_protocol
from datasets.resizer import make_resizer
from engine import predict
from engine.large import Large
from engine.refinement import refined
from network.height_gates import attention_blocks, record_gates
from network.inference import compiled, prepare_for_inference
from runtime.errors import UserError
from runtime.progress import Log
from settings import Settings
from settings.needs import WHOLE, can_cut


def prepared(settings: Settings, net: nn.Module) -> nn.Module:
    """The network as evaluation runs it: batch norm folded, compiled when asked."""
    net = prepare_for_inference(net)
    return compiled(net) if settings.run.compile else net


def input_scales(settings: Settings) -> tuple[float, ...]:
    """The scales that the image is resized to in evaluation; none for the image as it is."""
    inference = settings.inference
    if inference.multi_scale_inference:
        return (inference.default_scale, *inference.extra_scales)
    return () if inference.default_scale == 1 else (inference.default_scale,)


def build_infer(settings: Settings, net: nn.Module, return_all: bool) -> predict.Infer:
    """The inference procedure that the settings describe, as one callable."""
    inference = settings.inference
    whole_only = inference.slide_crop or inference.inference_mode != WHOLE
    refine = refined if inference.refine_boundaries else None
    infer = predict.whole(net, return_all and not whole_only, refine)
    if settings.data.no_pos_dataset:
        infer = predict.without_rows(infer)
    if inference.inference_mode != WHOLE:
        return hanet_infer(settings, infer)
    if inference.slide_crop is not None:
        assert inference.slide_stride is not None, "the rules let no window pass without a stride"
        infer = predict.slide(
            infer, inference.slide_crop, inference.slide_stride, inference.bs_window
        )
        if inference.slide_pad:
            infer = predict.padded(infer, inference.slide_crop)
    scales, box = input_scales(settings), settings.augmentation.test_scale
    if scales:
        resize = make_resizer(box, settings.augmentation.size_divisor) if box else None
        infer = predict.multi_scale(infer, scales, inference.average, resize)
    return predict.flip(infer, inference.average) if inference.do_flip else infer


def large_of(settings: Settings, log: Log) -> Large | None:
    """How images that are too large for one pass are cut; None where they are not."""
    most = settings.inference.max_pixels
    return None if most == 0 or not can_cut(settings) else Large(max_pixels=most, log=log)


def with_gates(settings: Settings, net: nn.Module, infer: predict.Infer) -> predict.Infer:
    """`infer` whose results also hold the height gates of `net`, from one pass of the whole image.

    The pass is one of its own, at scale 1, whatever windows, scales and mirrored copies `infer`
    goes through.
    """
    if not attention_blocks(net):
        raise UserError(
            f"--dump_attention: {settings.network.arch} has no HANet block; --hanet 1 1 1 1 0 "
            "with an arch that takes it, or leave the flag out"
        )
    gates: predict.Infer = functools.partial(record_gates, net)
    if settings.data.no_pos_dataset:
        gates = predict.without_rows(gates)
    return predict.Beside(infer, gates)


def protocol_of(settings: Settings) -> dict[str, Any]:
    """How the scores were obtained, for results.json and the report."""
    inference, augmentation = settings.inference, settings.augmentation
    return {
        "dataset": settings.data.dataset,
        "split": inference.eval or "val",
        "arch": settings.network.arch,
        "snapshot": settings.network.snapshot,
        "n_scales": settings.MODEL.n_scales,
        "flip": inference.do_flip,
        "averaged_scales": input_scales(settings) or None,
        "average": inference.average,
        "slide_crop": inference.slide_crop,
        "slide_stride": inference.slide_stride,
        "slide_pad": inference.slide_pad,
        "refine_boundaries": inference.refine_boundaries,
        "test_scale": augmentation.test_scale,
        "size_divisor": augmentation.size_divisor,
        "pre_size": augmentation.pre_size,
        "distance_crop": settings.outputs.eval_distance_crop,
        "boundary_labels": settings.outputs.eval_f1_labels,
        "precision": settings.run.precision,
        **({} if inference.max_pixels is None else {"max_pixels": inference.max_pixels}),
        **({"positions": False} if settings.data.no_pos_dataset else {}),
        **hanet_protocol(settings),
    }
