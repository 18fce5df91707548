# SPDX-License-Identifier: Apache-2.0
"""SegFormer B0 to B5, the MiT trunk with the all-MLP head, and MiT as ImageNet classifier.

Source: Xie et al., "SegFormer" (2021); Cityscapes val mIoU 76.2 (B0) to 82.4 (B5) at one scale.
"""

from __future__ import annotations

from torch import nn

from network.backbones.mit import DROP_PATH, SIZES, Four, MiT
from network.encoder_classifier import EncoderClassifier
from network.encoder_decoder import EncoderDecoder
from network.heads.segformer import SegFormerHead
from runtime.errors import UserError
from settings.model import ModelConfig

__all__ = [
    "B0",
    "B0_224",
    "B1",
    "B1_224",
    "B2",
    "B2_224",
    "B3",
    "B3_224",
    "B4",
    "B4_224",
    "B5",
    "B5_224",
]

CLASSIFIERS = frozenset(name for name in __all__ if name.endswith("_224"))  # `pred` is (B, K)
MIT_OPTIONS = frozenset({"drop_path", "grad_ckpt", "pretrained", "stage_depths"})
USED_OPTIONS = {
    name: MIT_OPTIONS if name in CLASSIFIERS else MIT_OPTIONS | {"align_corners"}
    for name in __all__
}
PUBLISHED = ModelConfig()


def depths_of(model: ModelConfig, published: Four) -> Four:
    """Blocks of the four stages: `stage_depths` if given; UserError for an empty stage."""
    depths = model.stage_depths or published
    if min(depths) < 1:
        raise UserError(f"stage_depths={','.join(map(str, depths))}: every stage needs a block")
    return depths


def mit(model: ModelConfig, size: str) -> MiT:
    """The trunk `size`, a key of `SIZES`, as `model` wants it."""
    return MiT(
        SIZES[size].channels,
        depths_of(model, SIZES[size].depths),
        drop_path=DROP_PATH if model.drop_path is None else model.drop_path,
        grad_ckpt=model.grad_ckpt,
    )


def with_head(backbone: MiT, size: str, num_classes: int, model: ModelConfig) -> EncoderDecoder:
    """`backbone` with the published head of `size`."""
    head = SegFormerHead(
        backbone.channels,
        num_classes,
        width=SIZES[size].head_width,
        align_corners=model.align_corners,
    )
    return EncoderDecoder(backbone, head, align_corners=model.align_corners)


def _segformer(size: str, num_classes: int, model: ModelConfig) -> EncoderDecoder:
    return with_head(mit(model, size), size, num_classes, model)


def B0(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """SegFormer-B0: 3,719,027 parameters with 19 classes."""
    return _segformer("B0", num_classes, model)


def B1(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """SegFormer-B1: 13,682,131 parameters with 19 classes."""
    return _segformer("B1", num_classes, model)


def B2(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """SegFormer-B2: 27,361,235 parameters with 19 classes."""
    return _segformer("B2", num_classes, model)


def B3(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """SegFormer-B3: 47,237,075 parameters with 19 classes."""
    return _segformer("B3", num_classes, model)


def B4(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """SegFormer-B4: 64,007,635 parameters with 19 classes."""
    return _segformer("B4", num_classes, model)


def B5(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """SegFormer-B5: 84,607,955 parameters with 19 classes."""
    return _segformer("B5", num_classes, model)


def B0_224(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """MiT-B0 as classifier."""
    return EncoderClassifier(mit(model, "B0"), num_classes)


def B1_224(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """MiT-B1 as classifier."""
    return EncoderClassifier(mit(model, "B1"), num_classes)


def B2_224(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """MiT-B2 as classifier."""
    return EncoderClassifier(mit(model, "B2"), num_classes)


def B3_224(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """MiT-B3 as classifier."""
    return EncoderClassifier(mit(model, "B3"), num_classes)


def B4_224(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """MiT-B4 as classifier."""
    return EncoderClassifier(mit(model, "B4"), num_classes)


def B5_224(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """MiT-B5 as classifier."""
    return EncoderClassifier(mit(model, "B5"), num_classes)
