# SPDX-License-Identifier: Apache-2.0
"""A trunk with four maps and a head on them: the frame of the transformer systems."""

from __future__ import annotations

from torch import Tensor, nn

from network.backbones.trunk import Trunk
from network.contract import OneScale
from network.heads.classes import DecodeHead
from network.heads.segformer import SegFormerHead
from network.outputs import Maps

HEAD = "decode_head."


class EncoderDecoder(OneScale):
    """`decode_head` on the maps of `backbone`, supervised inside by `auxiliary_head`.

    `backbone(images)` gives four maps at strides 4, 8, 16, 32; `decode_head(maps)` the logits
    and the features under them;
    `auxiliary_head(maps)` logits, in training only. The names of the three parts are those of
    the official weight files.
    """

    backbone: Trunk

    def __init__(
        self,
        backbone: Trunk,
        decode_head: DecodeHead,
        auxiliary_head: nn.Module | None = None,
        *,
        align_corners: bool = False,
    ) -> None:
        super().__init__(
            backbone, feature_channels=decode_head.feature_channels, align_corners=align_corners
        )
        self.decode_head, self.auxiliary_head = decode_head, auxiliary_head
        self.auxiliary_parts = () if auxiliary_head is None else ("auxiliary_head",)

    def adapt_to_file(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Lets a SegFormer head take width and form from the file.

        The width stays where other heads were built to read the features of this one.
        """
        head = self.decode_head
        if isinstance(head, SegFormerHead):
            own = {key.removeprefix(HEAD): v for key, v in state.items() if key.startswith(HEAD)}
            if not self.features_read and head.take_width(own):
                self.feature_channels = head.feature_channels
            head.fit_levels(own)
        return state

    def one_pass(
        self, images: Tensor, rows: Tensor | None = None, *, features: bool = True
    ) -> Maps:
        """Maps at stride 4; the features come for free."""
        trunk_maps = self.backbone(images)
        logits, feats = self.decode_head(trunk_maps)
        aux = None
        if self.training and self.auxiliary_head is not None:
            aux = self.auxiliary_head(trunk_maps)
        return Maps(logits=logits, feats=feats, aux=aux)
