# SPDX-License-Identifier: Apache-2.0
"""What the trunks of the DeepLab family have in common."""

from __future__ import annotations

from network.backbones.trunk import Trunk


class ThreeMaps(Trunk):
    """A trunk that gives [low, second, final] map of an image (B, 3, H, W).

    DeepLabV3+ joins the low map in; only the Deeper decoder reads the second. `grad_ckpt` cuts
    between the stages.
    """

    channels: tuple[int, int, int]
    strides: tuple[int, int, int]
