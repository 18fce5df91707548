# SPDX-License-Identifier: Apache-2.0
"""Object-contextual representations: every pixel attends to one vector for each class.

Source: Yuan et al., "Segmentation Transformer: Object-Contextual Representations for Semantic
Segmentation" (2019), section 3. Attribute names are those of the published weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from network.ops.conv import bn_relu, conv
from network.ops.joined_conv import JoinedConv, join
from network.outputs import Maps


def _two_layers(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        conv(inputs, width, 1), bn_relu(width), conv(width, width, 1), bn_relu(width)
    )


def gather(feats: Tensor, coarse: Tensor) -> Tensor:
    """Class vectors: feats (B, C, h, w) averaged with softmax weights over the pixels.

    coarse (B, K, h, w) holds the coarse logits; returns (B, C, K, 1). Never in 16 bits: the
    weights sum to one over a hundred thousand pixels, too small for float16.
    """
    precise = torch.promote_types(coarse.dtype, torch.float32)
    with torch.autocast(feats.device.type, enabled=False):
        weights = coarse.to(precise).flatten(2).softmax(dim=2)
        objects = torch.einsum("bcn,bkn->bck", feats.to(precise).flatten(2), weights)
    return objects.to(feats.dtype).unsqueeze(3)


class ObjectContext(nn.Module):
    """Attention of pixels (queries) to class vectors (keys and values)."""

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.scale = key_channels**-0.5
        self.f_pixel = _two_layers(channels, key_channels)
        self.f_object = _two_layers(channels, key_channels)
        self.f_down = nn.Sequential(conv(channels, key_channels, 1), bn_relu(key_channels))
        self.f_up = nn.Sequential(conv(key_channels, channels, 1), bn_relu(channels))

    def forward(self, feats: Tensor, objects: Tensor) -> Tensor:
        """feats (B, C, h, w), objects (B, C, K, 1) -> context (B, C, h, w)."""
        query = self.f_pixel(feats).flatten(2)
        key = self.f_object(objects).flatten(2)
        value = self.f_down(objects).flatten(2)
        similarity = torch.einsum("bcn,bck->bnk", query, key) * self.scale
        context = torch.einsum("bnk,bck->bcn", similarity.softmax(dim=2), value)
        return self.f_up(context.unflatten(2, feats.shape[2:]))


class ObjectContextHead(nn.Module):
    """Context and features, concatenated in this order, back to `channels`."""

    def __init__(self, channels: int, key_channels: int, dropout: float = 0.05) -> None:
        super().__init__()
        self.object_context_block = ObjectContext(channels, key_channels)
        self.conv_bn_dropout = nn.Sequential(
            conv(2 * channels, channels, 1), bn_relu(channels), nn.Dropout2d(dropout)
        )

    def forward(self, feats: Tensor, objects: Tensor) -> Tensor:
        context = self.object_context_block(feats, objects)
        return self.conv_bn_dropout(torch.cat([context, feats], dim=1))


class OCRHead(nn.Module):
    """Maps of a trunk -> coarse and final logits and the features behind the latter.

    `branch_channels` are the widths of the maps, which are concatenated at the size of the
    first. Initialised by PyTorch's defaults, as the reference does for this head.
    """

    def __init__(
        self,
        branch_channels: Sequence[int],
        num_classes: int,
        *,
        mid_channels: int = 512,
        key_channels: int = 256,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.branch_channels, self.mid_channels = tuple(branch_channels), mid_channels
        self.align_corners = align_corners
        channels = sum(branch_channels)
        self.conv3x3_ocr = nn.Sequential(
            JoinedConv(branch_channels, mid_channels, 3, bias=True), bn_relu(mid_channels)
        )
        self.ocr_distri_head = ObjectContextHead(mid_channels, key_channels)
        self.cls_head = conv(mid_channels, num_classes, 1, bias=True)
        self.aux_head = nn.Sequential(
            JoinedConv(branch_channels, channels, 1, bias=True),
            bn_relu(channels),
            conv(channels, num_classes, 1, bias=True),
        )

    def forward(self, branches: Sequence[Tensor], features: bool = True) -> Maps:
        """logits and aux (B, K, h, w), feats (B, mid_channels, h, w).

        The features are there anyway, so `features` is of no interest here.
        """
        joined = join(branches, self.align_corners)
        feats, coarse = self.conv3x3_ocr(joined), self.aux_head(joined)
        feats = self.ocr_distri_head(feats, gather(feats, coarse))
        return Maps(logits=self.cls_head(feats), aux=coarse, feats=feats)
