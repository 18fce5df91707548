# SPDX-License-Identifier: Apache-2.0
"""Attention inside stripes of a map, with one tensor as key and value.

Source: Gu et al., "Multi-Scale High-Resolution Vision Transformer" (2021), section 3.2; the
stripes are those of Dong et al., "CSWin Transformer" (2021), section 3.1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["row_stripe_attention"]


def row_stripe_attention(query: Tensor, value: Tensor, height: int, heads: int) -> Tensor:
    """softmax(Q V^T / sqrt(C / heads)) V inside every stripe of `height` full rows.

    query, value, result (B, H, W, C); heads are consecutive groups of channels. If `height` does
    not divide H, the last stripe has fewer rows: the same as padding it and masking the padded
    keys, without the padding. Stripes of columns: exchange H and W of the arguments.
    """
    full = query.shape[1] // height * height
    if full == query.shape[1]:
        return _attend(query, value, height, heads)
    last = _attend(query[:, full:], value[:, full:], query.shape[1] - full, heads)
    if full == 0:
        return last
    return torch.cat([_attend(query[:, :full], value[:, :full], height, heads), last], dim=1)


def _attend(query: Tensor, value: Tensor, height: int, heads: int) -> Tensor:
    """As `row_stripe_attention`, for `height` that divides H."""
    key = _windows(value, height, heads)
    result = F.scaled_dot_product_attention(_windows(query, height, heads), key, key)
    return result.transpose(1, 2).reshape(query.shape)


def _windows(x: Tensor, height: int, heads: int) -> Tensor:
    """(B, H, W, C) -> (B * H / height, heads, height * W, C / heads)."""
    _, _, width, channels = x.shape
    return x.reshape(-1, height * width, heads, channels // heads).transpose(1, 2)
