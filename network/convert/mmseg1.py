# SPDX-License-Identifier: Apache-2.0
"""Names of mmsegmentation 1.x: SegFormer, UPerNet on Swin, OCR on HRNet, and their trunks.

Convolutions before a batch norm have no bias there; where our networks have one it is zero. The
patch merging of Swin takes the four neighbours of a channel together, not the four maps in turn;
its weights are put into our order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from network.convert.names import Rule, Translated, counted_on, renamed

LAYOUT = "mmseg-1"
NORM_EPS = 1e-6  # of all norms of MiT
_MIT_START = re.compile(r"^(?:backbone\.)?layers\.\d\.0\.projection\.")
_SWIN_START = re.compile(r"^(?:backbone\.)?stages\.\d\.blocks\.\d+\.attn\.w_msa\.")
_OCR_START = "decode_head.1.object_context_block.query_project.0.conv.weight"

_MIT: tuple[Rule, ...] = (
    (r"^(?:backbone\.)?(?=layers\.)", ""),
    (r"^layers\.(\d)\.0\.projection\.", counted_on("backbone.patch_embed", ".proj.")),
    (r"^layers\.(\d)\.0\.norm\.", counted_on("backbone.patch_embed", ".norm.")),
    (r"^layers\.(\d)\.2\.", counted_on("backbone.norm")),
    (r"^layers\.(\d)\.1\.", counted_on("backbone.block")),
    (r"\.attn\.attn\.out_proj\.", ".attn.proj."),
    (r"\.ffn\.layers\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.dwconv.dwconv."),
    (r"\.ffn\.layers\.4\.", ".mlp.fc2."),
    (r"^decode_head\.convs\.(\d)\.conv\.", counted_on("decode_head.linear_c", ".proj.")),
    (r"^decode_head\.convs\.(\d)\.bn\.", counted_on("decode_head.linear_c", ".bn.")),
    (r"^decode_head\.fusion_conv\.", "decode_head.linear_fuse."),
    (r"^decode_head\.conv_seg\.", "decode_head.linear_pred."),
)
_SWIN: tuple[Rule, ...] = (
    (r"^(?:backbone\.)?(?=patch_embed\.|stages\.|norm\d\.)", "backbone."),
    (r"^backbone\.patch_embed\.projection\.", "backbone.patch_embed.proj."),
    (r"^backbone\.stages\.", "backbone.layers."),
    (r"\.attn\.w_msa\.", ".attn."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
)
_CONTEXT = "ocr.ocr_distri_head.object_context_block."


def _two_layers(theirs: str, ours: str) -> tuple[Rule, ...]:
    """A projection of two blocks, each a convolution and a norm."""
    start = rf"^decode_head\.1\.object_context_block\.{theirs}\."
    return tuple(
        rule
        for number in (0, 1)
        for rule in (
            (rf"{start}{number}\.conv\.", f"{_CONTEXT}{ours}.{2 * number}."),
            (rf"{start}{number}\.bn\.", f"{_CONTEXT}{ours}.{2 * number + 1}.0."),
        )
    )


def _one_layer(theirs: str, ours: str) -> tuple[Rule, ...]:
    """A convolution and its norm."""
    start = rf"^decode_head\.{theirs}\."
    return ((rf"{start}conv\.", f"{ours}.0."), (rf"{start}bn\.", f"{ours}.1.0."))


_OCR: tuple[Rule, ...] = (
    *_one_layer(r"0\.convs\.0", "ocr.aux_head"),
    (r"^decode_head\.0\.conv_seg\.", "ocr.aux_head.2."),
    *_one_layer(r"1\.bottleneck", "ocr.conv3x3_ocr"),
    *_two_layers("query_project", "f_pixel"),
    *_two_layers("key_project", "f_object"),
    *_one_layer(r"1\.object_context_block\.value_project", f"{_CONTEXT}f_down"),
    *_one_layer(r"1\.object_context_block\.out_project", f"{_CONTEXT}f_up"),
    *_one_layer(r"1\.object_context_block\.bottleneck", "ocr.ocr_distri_head.conv_bn_dropout"),
    (r"^decode_head\.1\.conv_seg\.", "ocr.cls_head."),
)
_NO_BIAS = re.compile(
    r"^(?:decode_head\.linear_c\d\.proj|ocr\.(?:aux_head|conv3x3_ocr)\.0)\.weight$"
)


def _mit(state: Mapping[str, Tensor]) -> Translated:
    own = renamed(state, _MIT)
    for key in [key for key in own if ".attn.attn.in_proj_" in key]:
        stem, _, end = key.partition(".attn.attn.in_proj_")
        rows = own.pop(key)
        own[f"{stem}.attn.q.{end}"], own[f"{stem}.attn.kv.{end}"] = rows.split(
            (len(rows) // 3, len(rows) - len(rows) // 3)
        )
    for key, value in own.items():  # linear layers are 1x1 convolutions there
        if key.endswith((".mlp.fc1.weight", ".mlp.fc2.weight", ".proj.weight")):
            linear = value.ndim == 4 and value.shape[2:] == (1, 1)
            own[key] = value.flatten(1) if linear else value
    own["backbone.norm_eps"] = torch.tensor((NORM_EPS, NORM_EPS))
    fusion = "decode_head.linear_fuse.conv.weight"
    if fusion in own:  # joined from the finest level to the coarsest, ours the other way
        own[fusion] = _reversed_parts(own[fusion], 4)
    return Translated(layout=LAYOUT, state=own)


def _reversed_parts(weight: Tensor, parts: int) -> Tensor:
    """(outputs, parts * C, 1, 1) with the parts of its inputs in reversed order."""
    if weight.ndim < 2 or weight.shape[1] % parts:
        return weight
    return weight.unflatten(1, (parts, -1)).flip(1).flatten(1, 2)


def _merging(value: Tensor) -> Tensor:
    """(..., C * 4), neighbours by row and column -> (..., 4 * C), by column, row and channel."""
    if value.shape[-1] % 4:
        return value
    return value.unflatten(-1, (-1, 2, 2)).transpose(-1, -3).flatten(-3)


def _swin(state: Mapping[str, Tensor]) -> Translated:
    own = renamed(state, _SWIN)
    for key in own:
        if re.search(r"\.downsample\.(?:norm\.(?:weight|bias)|reduction\.weight)$", key):
            own[key] = _merging(own[key])
    return Translated(layout=LAYOUT, state=own)


def translate(state: Mapping[str, Tensor]) -> Translated | None:
    """A state dict of mmsegmentation 1.x in our names; None if it is none."""
    if any(_MIT_START.match(key) for key in state):
        found = _mit(state)
    elif any(_SWIN_START.match(key) for key in state):
        found = _swin(state)
    elif _OCR_START in state:
        found = Translated(layout=LAYOUT, state=renamed(state, _OCR))
    else:
        return None
    for key in [key for key in found.state if _NO_BIAS.match(key)]:
        bias = key.removesuffix("weight") + "bias"
        if bias not in found.state:
            found.zeros(bias, len(found.state[key]))
    return found
