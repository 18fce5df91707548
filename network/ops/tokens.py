# SPDX-License-Identifier: Apache-2.0
"""One tensor seen as tokens and as an image: with channels last in memory both are views."""

from __future__ import annotations

from torch import Tensor

__all__ = ["to_image", "to_tokens"]


def to_image(tokens: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, C, H, W), no copy; contiguous tokens become a channels_last image."""
    return tokens.permute(0, 3, 1, 2)


def to_tokens(image: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H, W, C), contiguous; no copy from a channels_last image."""
    return image.permute(0, 2, 3, 1).contiguous()
