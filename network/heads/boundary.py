# SPDX-License-Identifier: Apache-2.0
"""A shallow branch that keeps detail, and what is learned about boundaries from it.

Sources: Zhu et al., "UN-EPT" (2021), section 3; Yuan et al., "SegFix: Model-Agnostic Boundary
Refinement for Segmentation" (2020) for mask and direction.
"""

from __future__ import annotations

from torch import Tensor, nn

from network.ops.conv import conv

DIRECTIONS = 8


class Halving(nn.Module):
    """3x3 convolution of stride 2 and batch norm; keys `conv1`, `bn`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = conv(inputs, outputs, 3, stride=2)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv1(x))
        return out


class SpatialBranch(nn.Module):
    """(B, 3, H, W) -> (B, width, ceil(H / 8), ceil(W / 8)), of either sign."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.convblock1 = Halving(3, width // 4)
        self.convblock2 = Halving(width // 4, width // 2)
        self.convblock3 = Halving(width // 2, width)

    def forward(self, images: Tensor) -> Tensor:
        x = self.convblock1(images).relu()
        x = self.convblock2(x).relu()
        out: Tensor = self.convblock3(x)
        return out


def boundary_head(width: int, outputs: int, channels: int | None = None) -> nn.Sequential:
    """(B, channels or else width, h, w) -> logits (B, outputs, h, w); keys 0, 1, 3."""
    return nn.Sequential(
        conv(channels or width, width, 1),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        conv(width, outputs, 1),
    )


def mask_head(width: int) -> nn.Sequential:
    """Two logits a cell: away from a boundary, near one."""
    return boundary_head(width, 2)


def direction_head(width: int) -> nn.Sequential:
    """Eight logits a cell, see `network/outputs.py`."""
    return boundary_head(width, DIRECTIONS)


class BoundaryHeads(nn.Module):
    """Mask and direction heads on the features of any network: keys `mask.*`, `direction.*`."""

    def __init__(self, channels: int, width: int = 256) -> None:
        super().__init__()
        self.mask = boundary_head(width, 2, channels)
        self.direction = boundary_head(width, DIRECTIONS, channels)

    def forward(self, feats: Tensor) -> tuple[Tensor, Tensor]:
        """(B, channels, h, w) -> logits (B, 2, h, w) and (B, 8, h, w)."""
        return self.mask(feats), self.direction(feats)
