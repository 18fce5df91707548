# SPDX-License-Identifier: Apache-2.0
"""Swin Transformer with UPerNet and an auxiliary FCN head, and as ImageNet classifier.

Sources: Liu et al., "Swin Transformer" (2021), section 4.3; Xiao et al. (2018) for UPerNet.
"""

from __future__ import annotations

from torch import nn

from network.arch import Arch
from network.backbones.swin import SIZES, Swin
from network.encoder_classifier import EncoderClassifier
from network.encoder_decoder import EncoderDecoder
from network.heads.fcn import FCNHead
from network.heads.uper import UPerHead
from network.segformer import depths_of
from settings.model import ModelConfig

SWIN_OPTIONS = frozenset({"drop_path", "grad_ckpt", "pretrained", "stage_depths"})
CLASSIFIER_DROP_PATH = 0.1


def with_heads(backbone: Swin, num_classes: int, model: ModelConfig) -> EncoderDecoder:
    """`backbone` with UPerNet, and the FCN head on its third map where `model` wants it."""
    head = UPerHead(backbone.channels, num_classes, align_corners=model.align_corners)
    auxiliary = FCNHead(backbone.channels[2], num_classes) if model.aux_head else None
    return EncoderDecoder(backbone, head, auxiliary, align_corners=model.align_corners)


def classifier(backbone: Swin, num_classes: int) -> EncoderClassifier:
    """`backbone` with one linear layer; its own norms, meant for maps, go."""
    for level in range(len(backbone.channels)):
        backbone.set_submodule(f"norm{level}", nn.Identity())
    return EncoderClassifier(backbone, num_classes, norm=True)


def _trunk(size: str, model: ModelConfig, drop_path: float) -> Swin:
    published = SIZES[size]
    return Swin(
        published.width,
        depths_of(model, published.depths),
        published.heads,
        drop_path=drop_path if model.drop_path is None else model.drop_path,
        grad_ckpt=model.grad_ckpt,
    )


def _upernet(size: str) -> Arch:
    def build(num_classes: int, model: ModelConfig) -> EncoderDecoder:
        return with_heads(_trunk(size, model, SIZES[size].drop_path), num_classes, model)

    return Arch(f"Swin-{size}, UPerNet", build, SWIN_OPTIONS | {"aux_head", "align_corners"})


def _classifier(size: str) -> Arch:
    def build(num_classes: int, model: ModelConfig) -> EncoderClassifier:
        return classifier(_trunk(size, model, CLASSIFIER_DROP_PATH), num_classes)

    return Arch(f"Swin-{size} as classifier", build, SWIN_OPTIONS, classifier=True)


ARCHS = {
    **{f"{size}_UPerNet": _upernet(size) for size in SIZES},
    **{f"{size}_224": _classifier(size) for size in SIZES},
}
