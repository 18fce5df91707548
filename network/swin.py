# SPDX-License-Identifier: Apache-2.0
"""Swin Transformer with UPerNet and an auxiliary FCN head, and as ImageNet classifier.

Sources: Liu et al., "Swin Transformer" (2021), section 4.3; Xiao et al. (2018) for UPerNet.
"""

from __future__ import annotations

from torch import nn

from network.backbones.swin import SIZES, Swin
from network.encoder_classifier import EncoderClassifier
from network.encoder_decoder import EncoderDecoder
from network.heads.fcn import FCNHead
from network.heads.uper import UPerHead
from network.segformer import depths_of
from settings.model import ModelConfig

__all__ = [
    "B_224",
    "B_UPerNet",
    "L_224",
    "L_UPerNet",
    "S_224",
    "S_UPerNet",
    "T_224",
    "T_UPerNet",
]

CLASSIFIERS = frozenset(name for name in __all__ if name.endswith("_224"))  # `pred` is (B, K)
SWIN_OPTIONS = frozenset({"drop_path", "grad_ckpt", "pretrained", "stage_depths"})
USED_OPTIONS = {
    name: SWIN_OPTIONS if name in CLASSIFIERS else SWIN_OPTIONS | {"aux_head", "align_corners"}
    for name in __all__
}
PUBLISHED = ModelConfig()
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


def _upernet(size: str, num_classes: int, model: ModelConfig) -> EncoderDecoder:
    return with_heads(_trunk(size, model, SIZES[size].drop_path), num_classes, model)


def T_UPerNet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """Swin-T."""
    return _upernet("T", num_classes, model)


def S_UPerNet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """Swin-S."""
    return _upernet("S", num_classes, model)


def B_UPerNet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """Swin-B."""
    return _upernet("B", num_classes, model)


def L_UPerNet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """Swin-L."""
    return _upernet("L", num_classes, model)


def T_224(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """Swin-T as classifier."""
    return classifier(_trunk("T", model, CLASSIFIER_DROP_PATH), num_classes)


def S_224(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """Swin-S as classifier."""
    return classifier(_trunk("S", model, CLASSIFIER_DROP_PATH), num_classes)


def B_224(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """Swin-B as classifier."""
    return classifier(_trunk("B", model, CLASSIFIER_DROP_PATH), num_classes)


def L_224(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """Swin-L as classifier."""
    return classifier(_trunk("L", model, CLASSIFIER_DROP_PATH), num_classes)
