# SPDX-License-Identifier: Apache-2.0
"""What the trunks of the HANet networks have in common."""

from __future__ import annotations

from torch import Tensor, nn

from network.ops.recompute import run_stage


class Stages(nn.Module):
    """A trunk of `layer0` ... `layer4`: the maps after layer1, layer3 and layer4 of an image.

    `channels` announces their widths. `file_names` says how an ImageNet file names the weights:
    prefix there -> prefix here, None for what is dropped on purpose. `smallest` is the side in
    pixels below which the trunk has no map to give. `grad_ckpt` recomputes the stages in the
    backward pass.
    """

    channels: tuple[int, int, int]
    file_names: dict[str, str | None]
    smallest: int = 1
    layer0: nn.Module
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(self, grad_ckpt: bool = False) -> None:
        super().__init__()
        self.grad_ckpt = grad_ckpt

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) -> low, third and final map (B, C, h, w)."""
        low = self._run(self.layer1, self.layer0(images))
        third = self._run(self.layer3, self._run(self.layer2, low))
        return low, third, self._run(self.layer4, third)

    def _run(self, stage: nn.Module, x: Tensor) -> Tensor:
        result: Tensor = run_stage(stage, x, self.grad_ckpt and self.training)
        return result
