# SPDX-License-Identifier: Apache-2.0
"""What the trunks of the HANet networks have in common."""

from __future__ import annotations

from torch import Tensor, nn

from network.backbones.trunk import Trunk


class FiveStages(Trunk):
    """A trunk of `layer0` ... `layer4`: the maps after layer1, layer3 and layer4 of an image.

    Below `smallest` it has no map to give. `grad_ckpt` cuts between the stages.
    """

    channels: tuple[int, int, int]
    strides: tuple[int, int, int]
    layer0: nn.Module
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) -> low, third and final map (B, C, h, w)."""
        low = self.run(self.layer1, self.layer0(images))
        third = self.run(self.layer3, self.run(self.layer2, low))
        return low, third, self.run(self.layer4, third)
