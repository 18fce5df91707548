# SPDX-License-Identifier: Apache-2.0
"""The graph that is exported: an image in bytes to class ids or scores, the network inside."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from network.outputs import PRED
from transforms.normalize import scale_and_shift

Output = Literal["ids", "scores"]
Precision = Literal["fp32", "fp16"]

INPUT = "image"


class ExportGraph(nn.Module):
    """uint8 (1, H, W, 3) RGB -> ids (1, H, W), or scores (1, K, H, W) float32.

    `net` runs at its own scales and takes row positions of the whole image with `rows`. The
    normalisation is that of the loader (`transforms.normalize`); what the weights want instead,
    the network changes at its entry. Ids are uint8: a data set has at most 255 classes. With
    `fp16` all between normalisation and scores is in half precision, and so is `net` from now on.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        output: Output,
        rows: bool = False,
        precision: Precision = "fp32",
    ) -> None:
        super().__init__()
        self.output, self.precision, self.rows = output, precision, rows
        self.dtype = torch.float16 if precision == "fp16" else torch.float32
        self.net = net.to(self.dtype)
        scale, shift = scale_and_shift()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def scores(self, image: Tensor) -> Tensor:
        """(1, K, H, W) float32, whatever the output of the graph."""
        images = image.permute(0, 3, 1, 2).float() * self.scale + self.shift
        rows = None
        if self.rows:
            height = image.shape[1]
            rows = ((torch.arange(height, device=image.device) + 0.5) / height)[None]
        outputs: dict[str, Tensor] = self.net(images.to(self.dtype), rows=rows)
        return outputs[PRED].float()

    def forward(self, image: Tensor) -> Tensor:
        """What the graph gives."""
        scores = self.scores(image)
        return scores if self.output == "scores" else self.ids(scores)

    def ids(self, scores: Tensor) -> Tensor:
        """The class of the highest score, the lowest id on a tie: (1, K, H, W) -> (1, H, W)."""
        return scores.argmax(1).to(torch.uint8)
