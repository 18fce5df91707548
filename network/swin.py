# SPDX-License-Identifier: Apache-2.0
"""Swin Transformer with UPerNet and an auxiliary FCN head.

Sources: Liu et al., "Swin Transformer" (2021), section 4.3; Xiao et al. (2018) for UPerNet.
"""

from __future__ import annotations

from torch import nn

from config import ModelConfig
from network.backbones.swin import SIZES, Swin
from network.encoder_decoder import EncoderDecoder
from network.heads.fcn import FCNHead
from network.heads.uper import UPerHead
from network.segformer import depths_of

__all__ = ["S_UPerNet", "T_UPerNet"]

SWIN_OPTIONS = frozenset(
    {"drop_path", "grad_ckpt", "pretrained", "stage_depths", "aux_head", "align_corners"}
)
USED_OPTIONS = {name: SWIN_OPTIONS for name in __all__}
PUBLISHED = ModelConfig()


def with_heads(backbone: Swin, num_classes: int, model: ModelConfig) -> EncoderDecoder:
    """`backbone` with UPerNet, and the FCN head on its third map where `model` wants it."""
    head = UPerHead(backbone.channels, num_classes, align_corners=model.align_corners)
    auxiliary = FCNHead(backbone.channels[2], num_classes) if model.aux_head else None
    return EncoderDecoder(backbone, head, auxiliary, align_corners=model.align_corners)


def _swin(size: str, num_classes: int, model: ModelConfig) -> EncoderDecoder:
    published = SIZES[size]
    backbone = Swin(
        published.width,
        depths_of(model, published.depths),
        published.heads,
        drop_path=published.drop_path if model.drop_path is None else model.drop_path,
        grad_ckpt=model.grad_ckpt,
    )
    return with_heads(backbone, num_classes, model)


def T_UPerNet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """Swin-T."""
    return _swin("T", num_classes, model)


def S_UPerNet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """Swin-S."""
    return _swin("S", num_classes, model)
