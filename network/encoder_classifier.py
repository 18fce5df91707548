# SPDX-License-Identifier: Apache-2.0
"""A trunk with one linear layer: the frame of ImageNet classifiers."""

from __future__ import annotations

from torch import Tensor, nn

from network.backbones.trunk import Trunk
from network.contract import Network
from network.ops.init import init_transformer
from network.outputs import PRED


class EncoderClassifier(Network):
    """The mean of the last map of `backbone`, then class scores.

    `backbone(images)` gives maps, the last of `backbone.channels[-1]` channels. Published files
    have no group around the trunk; they load all the same. With `norm` the tokens are normed
    here and not in the trunk.
    """

    auxiliary_parts = ()

    def __init__(self, backbone: Trunk, num_classes: int, *, norm: bool = False) -> None:
        super().__init__()
        channels = backbone.channels[-1]
        self.backbone = backbone
        self.norm = nn.LayerNorm(channels) if norm else nn.Identity()
        self.head = nn.Linear(channels, num_classes)
        init_transformer(self.head)
        self.take_input_norm(backbone.input_norm)

    @property
    def trunk(self) -> Trunk:
        """The part `backbone`."""
        return self.backbone

    def forward(
        self, images: Tensor, rows: Tensor | None = None, return_all: bool = False
    ) -> dict[str, Tensor]:
        """`pred` (B, K); `rows` and `return_all` add nothing."""
        tokens = self.backbone(self.own_inputs(images))[-1].flatten(2).transpose(1, 2)
        return {PRED: self.head(self.norm(tokens).mean(dim=1))}
