# SPDX-License-Identifier: Apache-2.0
"""Maps of several strides from the layers of a plain vision transformer, which have one stride.

Source: Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection" (2022),
section 3, the simple feature pyramid. differs: each level is made of a layer of its own, from the
shallow to the deep, as BEiT's segmentation does, not all of the last one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)
PYRAMID = "pyramid"  # name of this part in a trunk


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, h, w), each place by itself."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        normed = F.layer_norm(
            x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return normed.permute(0, 3, 1, 2)


def doublings(patch: int, stride: int) -> int:
    """How often a map of stride `patch` is doubled to come near `stride`; below 0: halved.

    Patches of 14 count as 16: their maps are resized in the end.
    """
    return (patch - 1).bit_length() - (stride - 1).bit_length()


def level(channels: int, count: int) -> tuple[nn.Module, int]:
    """What doubles a map `count` times, or halves it, and the channels that come out.

    Each doubling halves the channels.
    """
    if count <= 0:
        side = 2**-count
        return (nn.MaxPool2d(side) if side > 1 else nn.Identity()), channels
    layers: list[nn.Module] = []
    for step in range(count):
        if step:
            layers += [ChannelNorm(channels), nn.GELU()]
        layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, stride=2))
        channels //= 2
    return nn.Sequential(*layers), channels


class SimplePyramid(nn.ModuleList):
    """Maps (B, C, h, w), one for each of `strides` -> (B, C_i, h_i, w_i) at about these strides."""

    def __init__(self, channels: int, patch: int, strides: Sequence[int] = STRIDES) -> None:
        levels = [level(channels, doublings(patch, stride)) for stride in strides]
        super().__init__([part for part, _ in levels])
        self.channels = tuple(width for _, width in levels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One level from each map."""
        return [part(x) for part, x in zip(self, maps, strict=True)]
