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

SCORES_AT_ONCE = 2**18  # of attention in bfloat16 on the CPU: they should stay in its cache


def row_stripe_attention(query: Tensor, value: Tensor, height: int, heads: int) -> Tensor:
    """softmax(Q V^T / sqrt(C / heads)) V inside every stripe of `height` full rows.

    query, value, result (B, H, W, C); heads are consecutive groups of channels. If `height` does
    not divide H, the last stripe has fewer rows: the same as padding it and masking the padded
    keys, without the padding. Stripes of columns: exchange H and W of the arguments.
    """
    if torch.compiler.is_exporting() and height > 1:
        return _attend_padded(query, value, height, heads)
    full = query.shape[1] // height * height
    if full == query.shape[1]:
        return _attend(query, value, height, heads)
    last = _attend(query[:, full:], value[:, full:], query.shape[1] - full, heads)
    if full == 0:
        return last
    return torch.cat([_attend(query[:, :full], value[:, :full], height, heads), last], dim=1)


def _attend(query: Tensor, value: Tensor, height: int, heads: int) -> Tensor:
    """As `row_stripe_attention`, for `height` that divides H."""
    windows, key = _windows(query, height, heads), _windows(value, height, heads)
    if query.dtype == torch.bfloat16 and query.device.type == "cpu":
        result = _by_products(windows, key)
    else:
        result = F.scaled_dot_product_attention(windows, key, key)
    return result.transpose(1, 2).reshape(query.shape)


def _attend_padded(query: Tensor, value: Tensor, height: int, heads: int) -> Tensor:
    """As `row_stripe_attention`, by padding and masking: the same steps for every H."""
    rows, width = query.shape[1:3]
    missing = -rows % height
    query, value = (F.pad(x, (0, 0, 0, 0, 0, missing)) for x in (query, value))
    windows, key = _windows(query, height, heads), _windows(value, height, heads)
    real = torch.arange(rows + missing, device=query.device) < rows
    mask = real.view(-1, 1, 1, height, 1).expand(-1, 1, 1, height, width).flatten(3)
    mask = mask.repeat(query.shape[0], 1, 1, 1)
    mixed = F.scaled_dot_product_attention(windows, key, key, attn_mask=mask)
    return mixed.transpose(1, 2).reshape(query.shape)[:, :rows]


def _by_products(query: Tensor, key: Tensor) -> Tensor:
    """Attention of (windows, heads, T, C) by matrix products, some windows at a time.

    PyTorch's fused kernel gains nothing from a CPU's bfloat16 instructions; its products do.
    """
    heads = query.shape[1]
    queries = (query * query.shape[-1] ** -0.5).flatten(0, 1)
    keys = key.flatten(0, 1).contiguous()
    at_once = max(1, SCORES_AT_ONCE // query.shape[2] ** 2)
    parts = [
        torch.bmm(torch.bmm(some, each.mT).softmax(-1), each)
        for some, each in zip(queries.split(at_once), keys.split(at_once), strict=True)
    ]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).unflatten(0, (-1, heads))


def _windows(x: Tensor, height: int, heads: int) -> Tensor:
    """(B, H, W, C) -> (B * H / height, heads, height * W, C / heads)."""
    _, _, width, channels = x.shape
    return x.reshape(-1, height * width, heads, channels // heads).transpose(1, 2)
