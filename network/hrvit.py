# SPDX-License-Identifier: Apache-2.0
"""HRViT for segmentation, with its own light head or UPerNet, and as an ImageNet classifier.

Source: Gu et al., "Multi-Scale High-Resolution Vision Transformer for Semantic Segmentation"
(2021), tables 2 to 5.
"""

from __future__ import annotations

from torch import Tensor, nn

from network.backbones.hrvit import VARIANTS, HRViT, HRViTBody, Variant
from network.encoder_decoder import EncoderDecoder
from network.heads.fcn import FCNHead
from network.heads.hrvit_classifier import HRViTClassifierHead
from network.heads.hrvit_head import HRViTHead
from network.heads.uper import UPerHead
from network.outputs import PRED
from settings.model import ModelConfig

__all__ = [
    "b1_224",
    "b1_SegFormer",
    "b1_UPerNet",
    "b2_224",
    "b2_SegFormer",
    "b2_UPerNet",
    "b3_224",
    "b3_SegFormer",
    "b3_UPerNet",
]

CLASSIFIERS = frozenset({"b1_224", "b2_224", "b3_224"})  # `pred` is (B, K)
TRUNK_OPTIONS = frozenset({"grad_ckpt", "pretrained", "drop_path"})
USED_OPTIONS = {
    name: TRUNK_OPTIONS | {"head_drop"}
    if name in CLASSIFIERS
    else TRUNK_OPTIONS | {"align_corners"} | ({"aux_head"} if "UPerNet" in name else set())
    for name in __all__
}
PUBLISHED = ModelConfig()
HEAD_WIDTHS = {"b1": 256, "b2": 256, "b3": 768}
# differs: the release trains UPerNet on b3 with b1's trunk and rate, which cannot run.
DROP_PATH = {"b1": 0.1, "b2": 0.2, "b3": 0.3}
AUX_INDEX = 2  # the map that the auxiliary head reads
CLASSIFIER_DROP_PATH, HEAD_DROP = 0.1, 0.1


class HRViTClassifier(HRViTBody):
    """The trunk with a classifier on it: images (B, 3, H, W) of any size to `pred` (B, K).

    It is its own trunk for `--pretrained`, of which the head takes nothing.
    """

    fresh_groups = (("head.",),)

    def __init__(
        self,
        variant: Variant,
        num_classes: int,
        *,
        drop_path: float,
        head_drop: float,
        grad_ckpt: bool,
    ) -> None:
        super().__init__(variant, drop_path=drop_path, grad_ckpt=grad_ckpt)
        self.head = HRViTClassifierHead(self.channels, num_classes, head_drop)

    def forward(
        self, images: Tensor, rows: Tensor | None = None, return_all: bool = False
    ) -> dict[str, Tensor]:
        """`pred`; `return_all` adds nothing."""
        return {PRED: self.head(self.encode(images))}


def _rate(model: ModelConfig, published: float) -> float:
    return published if model.drop_path is None else model.drop_path


def _trunk(size: str, model: ModelConfig) -> HRViT:
    rate = _rate(model, DROP_PATH[size])
    return HRViT(VARIANTS[size], drop_path=rate, grad_ckpt=model.grad_ckpt)


def _segformer(size: str, num_classes: int, model: ModelConfig) -> nn.Module:
    trunk = _trunk(size, model)
    head = HRViTHead(
        trunk.channels, num_classes, width=HEAD_WIDTHS[size], align_corners=model.align_corners
    )
    return EncoderDecoder(trunk, head, align_corners=model.align_corners)


def _upernet(size: str, num_classes: int, model: ModelConfig) -> nn.Module:
    trunk = _trunk(size, model)
    head = UPerHead(trunk.channels, num_classes, align_corners=model.align_corners)
    aux = FCNHead(trunk.channels[AUX_INDEX], num_classes, index=AUX_INDEX)
    return EncoderDecoder(
        trunk, head, aux if model.aux_head else None, align_corners=model.align_corners
    )


def _classifier(size: str, num_classes: int, model: ModelConfig) -> nn.Module:
    return HRViTClassifier(
        VARIANTS[size],
        num_classes,
        drop_path=_rate(model, CLASSIFIER_DROP_PATH),
        head_drop=HEAD_DROP if model.head_drop is None else model.head_drop,
        grad_ckpt=model.grad_ckpt,
    )


def b1_SegFormer(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """HRViT-b1, light head: 8,149,451 parameters with 19 classes."""
    return _segformer("b1", num_classes, model)


def b2_SegFormer(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """HRViT-b2, light head: 20,776,115 parameters with 19 classes."""
    # differs: the release gives the head 192 channels where the trunk has 240; that cannot run.
    return _segformer("b2", num_classes, model)


def b3_SegFormer(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """HRViT-b3, light head: 28,623,755 parameters with 19 classes."""
    return _segformer("b3", num_classes, model)


def b1_UPerNet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """HRViT-b1, UPerNet: 35,952,100 parameters with 150 classes and the auxiliary head."""
    return _upernet("b1", num_classes, model)


def b2_UPerNet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """HRViT-b2, UPerNet: 49,696,972 parameters with 150 classes and the auxiliary head."""
    return _upernet("b2", num_classes, model)


def b3_UPerNet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """HRViT-b3, UPerNet: 55,815,588 parameters with 150 classes and the auxiliary head."""
    return _upernet("b3", num_classes, model)


def b1_224(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """HRViT-b1 classifier: 19,685,152 parameters with 1000 classes."""
    return _classifier("b1", num_classes, model)


def b2_224(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """HRViT-b2 classifier: 32,486,408 parameters with 1000 classes."""
    return _classifier("b2", num_classes, model)


def b3_224(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """HRViT-b3 classifier: 37,870,304 parameters with 1000 classes."""
    return _classifier("b3", num_classes, model)
