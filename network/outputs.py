# SPDX-License-Identifier: Apache-2.0
"""What a network returns: a dictionary of float tensors under the keys made here.

`net(images, rows=None, return_all=False)` with images (B, 3, H, W), K classes:

| key | shape | when |
|---|---|---|
| `pred` | (B, K, H, W), of a classifier (B, K) | always: the scores that decide the class |
| `aux` | (B, K, H, W), HANet (B, K, h, w) | training, auxiliary prediction; joined over scales |
| `pred_05x`, `pred_10x`, ... | (B, K, sH, sW) | multi-scale, in training and with `return_all` |
| `attn_05x`, ... | (B, 1, sH, sW), in 0..1 | the same |
| `mask` | (B, 2, h, w) | training, after `run_boundary_in_eval` always: boundary heads |
| `dir` | (B, 8, h, w) | the same |
| `row_logits` | (B, K, R) | training, networks with a fifth HANet block at one scale |

`pred_*` is the prediction of the pass at scale s = 0.5, 1.0, ... (sizes rounded down), `attn_*`
the trust in that pass against the next higher one; there is none at the highest scale. Two
modules differ: `mscale2` gives one map, the one used last, as `attn_10x` (B, 1, H, W);
`attnscale` gives the weight of every scale, (B, 1, H, W), of any sign unless paired. `mask` and
`dir` stay at the resolution of the heads: whether a pixel is near a boundary (class 1), and in
which of eight directions, clockwise from left in steps of 45 degrees, the inside of its object
lies. All scores are logits. In eval mode nothing is computed that `pred` does not need, unless
`return_all` is given.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from network.ops.resize import at_scale as at_scale
from network.ops.resize import resize, size_of
from network.ops.rows import scaled_rows as scaled_rows  # for those who may not see the layers

PRED, AUX = "pred", "aux"
MASK, DIRECTION = "mask", "dir"
ROW_LOGITS = "row_logits"  # whether a class occurs in each of R equal parts of the height
SCALE_PREFIX, ATTENTION_PREFIX = "pred_", "attn_"
GATE_PREFIX = "gate_"  # of the height gates that `record_gates` gives, not of an output


@dataclass(frozen=True, kw_only=True)
class Maps:
    """What one pass of a network computes, before any resize to the input.

    logits (B, K, h, w); aux (B, K, h, w) or None; feats (B, C, h', w'): the map that the scale
    attention reads, with C = `feature_channels` of the network. mask (B, 2, h'', w'') and
    direction (B, 8, h'', w''): what boundary heads say, or None. row_logits (B, K, R) or None.
    """

    logits: Tensor
    feats: Tensor
    aux: Tensor | None = None
    mask: Tensor | None = None
    direction: Tensor | None = None
    row_logits: Tensor | None = None


def _digits(scale: float) -> str:
    return repr(float(scale)).replace(".", "")


def pred_key(scale: float) -> str:
    """Key of the prediction at one scale: 0.5 -> `pred_05x`, 2.0 -> `pred_20x`."""
    return f"{SCALE_PREFIX}{_digits(scale)}x"


def attn_key(scale: float) -> str:
    """Key of the attention at one scale: 0.5 -> `attn_05x`."""
    return f"{ATTENTION_PREFIX}{_digits(scale)}x"


def scale_of(key: str) -> float:
    """The scale in a key: `pred_05x` -> 0.5, `attn_025x` -> 0.25; ValueError for other keys."""
    digits = key.removeprefix(SCALE_PREFIX).removeprefix(ATTENTION_PREFIX).removesuffix("x")
    if digits == key or not digits.isdecimal() or len(digits) < 2:
        raise ValueError(f"{key} is no key of a single scale such as {pred_key(0.5)}")
    return float(f"{digits[0]}.{digits[1:]}")


def single_scale_outputs(
    maps: Maps, images: Tensor, *, training: bool, align_corners: bool
) -> dict[str, Tensor]:
    """`pred`, in training `aux`, at the size of `images`; the others if they were made."""
    size = size_of(images)
    outputs = {PRED: resize(maps.logits, size, align_corners)}
    if training and maps.aux is not None:
        outputs[AUX] = resize(maps.aux, size, align_corners)
    if training and maps.row_logits is not None:
        outputs[ROW_LOGITS] = maps.row_logits
    return outputs | boundary_outputs(maps.mask, maps.direction)


def boundary_outputs(mask: Tensor | None, direction: Tensor | None) -> dict[str, Tensor]:
    """`mask` and `dir`, those that were made."""
    both = {MASK: mask, DIRECTION: direction}
    return {key: value for key, value in both.items() if value is not None}
