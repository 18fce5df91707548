# SPDX-License-Identifier: Apache-2.0
"""The OCR head for inference on the CPU: a fifth of the memory, half of the multiplications."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from network.heads.ocr import OCRHead
from network.ops.onednn import linear
from network.ops.part import Part
from network.ops.split_conv import SplitConv, SplitInput, tiles
from network.outputs import Maps


class TiledOCR(Part):
    """An OCR head without batch norms, for inference: one image and one tile at a time.

    The concatenated map of the trunk (720 channels for HRNet-W48) and the context map are never
    formed; the largest tensor is one map of `mid_channels`. Layers that are linear in a class
    vector are applied to the class vectors instead of to every pixel.
    """

    is_eager = True  # never compiled: it loops over tiles of many sizes

    def __init__(self, head: OCRHead, tile: int = 64) -> None:
        """`head`: in eval mode, batch norms folded; `tile`: side in pixels of its maps."""
        super().__init__()
        self.tile, self.align_corners = tile, head.align_corners
        self.feats = SplitConv(_conv(head.conv3x3_ocr), head.branch_channels)
        self.hidden = SplitConv(_conv(head.aux_head), head.branch_channels)
        self.coarse = _linear(head.aux_head.get_submodule("2"))
        context = head.ocr_distri_head.object_context_block
        self.scale, self.f_object, self.f_down = context.scale, context.f_object, context.f_down
        self.query = nn.Sequential(
            _linear(_conv(context.f_pixel)),
            nn.ReLU(inplace=True),
            _linear(context.f_pixel.get_submodule("2")),
            nn.ReLU(inplace=True),
        )
        self.up = _linear(_conv(context.f_up))
        join = _linear(_conv(head.ocr_distri_head.conv_bn_dropout))
        from_context, from_feats = join.weight.split(head.mid_channels, dim=1)
        self.from_context = nn.Buffer(from_context.contiguous())
        self.from_feats = nn.Buffer(from_feats.contiguous())
        self.join_bias = join.bias
        self.classify = _linear(head.cls_head)

    def forward(self, branches: Sequence[Tensor], features: bool = True) -> Maps:
        """As OCRHead; without `features` the map `feats` is no use to anyone."""
        batch, _, height, width = branches[0].shape
        like = branches[0].float()
        logits = like.new_empty(batch, height, width, self.classify.out_features)
        coarse = torch.empty_like(logits)
        # One map serves all images when nobody wants to keep it.
        feats = like.new_empty(batch if features else 1, height, width, self.feats.outputs)
        with torch.autocast(like.device.type, enabled=False):
            for index in range(batch):
                source = SplitInput.of([x[index].float() for x in branches], self.align_corners)
                kept = feats[index if features else 0]
                self._first_pass(source, kept, coarse[index])
                self._second_pass(kept, coarse[index], logits[index], features)
        logits, coarse, feats = (x.permute(0, 3, 1, 2) for x in (logits, coarse, feats))
        return Maps(logits=logits, aux=coarse, feats=feats)

    def _first_pass(self, source: SplitInput, feats: Tensor, coarse: Tensor) -> None:
        """Fill feats (h, w, C) and the coarse logits (h, w, K)."""
        for tile in tiles((feats.shape[0], feats.shape[1]), self.tile):
            feats[tile.window] = self.feats(source, tile).relu_()
            coarse[tile.window] = self.coarse(self.hidden(source, tile).relu_())

    def _second_pass(self, feats: Tensor, coarse: Tensor, logits: Tensor, features: bool) -> None:
        """Fill logits (h, w, K); with `features` put the features behind them into feats."""
        key, value = self._class_vectors(feats, coarse)
        for tile in tiles((feats.shape[0], feats.shape[1]), self.tile):
            mixed = self._mix(feats[tile.window], key, value)
            logits[tile.window] = self.classify(mixed)
            if features:
                feats[tile.window] = mixed

    def _class_vectors(self, feats: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Keys (K, key_channels), scaled, and values after `f_up`'s product (K, mid_channels)."""
        weights = coarse.flatten(0, 1).softmax(dim=0)
        objects = (weights.t() @ feats.flatten(0, 1)).t()[None, :, :, None]
        key, value = self.f_object(objects), self.f_down(objects)
        return key[0, :, :, 0].t() * self.scale, value[0, :, :, 0].t() @ self.up.weight.t()

    def _mix(self, feats: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Features after attention to the classes: (rows, columns, C) -> the same."""
        similarity = (self.query(feats) @ key.t()).softmax(dim=-1)
        # The weights sum to one, so mixing first and adding the bias after is the same.
        context = (similarity @ value).add_(self.up.bias).relu_()
        mixed = linear(feats, self.from_feats, self.join_bias)
        return mixed.add_(linear(context, self.from_context)).relu_()


def _conv(layers: nn.Module) -> nn.Conv2d:
    """The first layer of a group."""
    layer = layers.get_submodule("0")
    assert isinstance(layer, nn.Conv2d)
    return layer


def _linear(conv: nn.Module) -> nn.Linear:
    """A 1x1 convolution as a layer for maps (h, w, C)."""
    assert isinstance(conv, nn.Conv2d) and conv.kernel_size == (1, 1) and conv.bias is not None
    linear = nn.Linear(conv.in_channels, conv.out_channels)
    linear.weight = nn.Parameter(conv.weight.detach().flatten(1), requires_grad=False)
    linear.bias = nn.Parameter(conv.bias.detach().clone(), requires_grad=False)
    return linear
