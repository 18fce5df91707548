# SPDX-License-Identifier: Apache-2.0
"""What the trunks of the DeepLab family have in common."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from network.ops.recompute import run_stage


class ThreeMaps(nn.Module):
    """A trunk that gives [low, second, final] map of an image (B, 3, H, W).

    DeepLabV3+ joins the low map in; only the Deeper decoder reads the second. `channels` and
    `strides` announce them. `file_names` says how an ImageNet file names the weights: prefix
    there -> prefix here, None for what is dropped on purpose. `grad_ckpt` recomputes the stages
    in the backward pass.
    """

    channels: tuple[int, int, int]
    strides: tuple[int, int, int]
    file_names: ClassVar[dict[str, str | None]]

    def __init__(self, grad_ckpt: bool = False) -> None:
        super().__init__()
        self.grad_ckpt = grad_ckpt

    def run(self, stage: nn.Module, x: Tensor) -> Tensor:
        """`stage(x)`."""
        return run_stage(stage, x, self.grad_ckpt and self.training)
