# SPDX-License-Identifier: Apache-2.0
"""The feed-forward part of MiT blocks: two linear layers and a depth-wise convolution."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class DepthwiseConv(nn.Module):
    """3x3 depth-wise convolution on (B, H, W, C); the inner name is that of published keys."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; zeros beyond the border."""
        mixed: Tensor = self.dwconv(x.permute(0, 3, 1, 2))
        return mixed.permute(0, 2, 3, 1)


class MixFFN(nn.Module):
    """(B, H, W, C) -> the same shape; the convolution lets tokens know where they are.

    Source: Xie et al., "SegFormer" (2021), section 3.1, equation 3.
    """

    def __init__(self, channels: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, ratio * channels)
        self.dwconv = DepthwiseConv(ratio * channels)
        self.fc2 = nn.Linear(ratio * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Linear, depth-wise 3x3, GELU, linear."""
        out: Tensor = self.fc2(F.gelu(self.dwconv(self.fc1(x))))
        return out
