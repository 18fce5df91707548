# SPDX-License-Identifier: Apache-2.0
"""HRViT for segmentation, with its own light head or UPerNet, and as an ImageNet classifier.

Source: Gu et al., "Multi-Scale High-Resolution Vision Transformer for Semantic Segmentation"
(2021), tables 2 to 5.
"""

from __future__ import annotations

from torch import Tensor

from network.arch import Arch
from network.backbones.hrvit import VARIANTS, HRViT, HRViTBody, Variant
from network.contract import Network
from network.encoder_decoder import EncoderDecoder
from network.heads.fcn import FCNHead
from network.heads.hrvit_classifier import HRViTClassifierHead
from network.heads.hrvit_head import HRViTHead
from network.heads.uper import UPerHead
from network.outputs import PRED
from settings.model import ModelConfig

TRUNK_OPTIONS = frozenset({"grad_ckpt", "pretrained", "drop_path"})
HEAD_WIDTHS = {"b1": 256, "b2": 256, "b3": 768}
# differs: the release trains UPerNet on b3 with b1's trunk and rate, which cannot run.
DROP_PATH = {"b1": 0.1, "b2": 0.2, "b3": 0.3}
AUX_INDEX = 2  # the map that the auxiliary head reads
CLASSIFIER_DROP_PATH, HEAD_DROP = 0.1, 0.1


class HRViTClassifier(HRViTBody, Network):
    """The trunk with a classifier on it: images (B, 3, H, W) of any size to `pred` (B, K).

    It is its own trunk for `--pretrained`, of which the head takes nothing.
    """

    auxiliary_parts = ()
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

    @property
    def trunk(self) -> HRViTBody:
        """Itself."""
        return self

    def forward(
        self, images: Tensor, rows: Tensor | None = None, return_all: bool = False
    ) -> dict[str, Tensor]:
        """`pred`; `return_all` adds nothing."""
        return {PRED: self.head(self.encode(self.own_inputs(images)))}


def _rate(model: ModelConfig, published: float) -> float:
    return published if model.drop_path is None else model.drop_path


def _trunk(size: str, model: ModelConfig) -> HRViT:
    rate = _rate(model, DROP_PATH[size])
    return HRViT(VARIANTS[size], drop_path=rate, grad_ckpt=model.grad_ckpt)


# differs: the release gives the light head of b2 192 channels where the trunk has 240, which
# cannot run.
def _segformer(size: str, about: str) -> Arch:
    def build(num_classes: int, model: ModelConfig) -> EncoderDecoder:
        trunk, align = _trunk(size, model), model.align_corners
        head = HRViTHead(trunk.channels, num_classes, width=HEAD_WIDTHS[size], align_corners=align)
        return EncoderDecoder(trunk, head, align_corners=align)

    return Arch(f"HRViT-{size}, light head: {about}", build, TRUNK_OPTIONS | {"align_corners"})


def _upernet(size: str, about: str) -> Arch:
    def build(num_classes: int, model: ModelConfig) -> EncoderDecoder:
        trunk, align = _trunk(size, model), model.align_corners
        head = UPerHead(trunk.channels, num_classes, align_corners=align)
        aux = FCNHead(trunk.channels[AUX_INDEX], num_classes, index=AUX_INDEX)
        return EncoderDecoder(trunk, head, aux if model.aux_head else None, align_corners=align)

    options = TRUNK_OPTIONS | {"align_corners", "aux_head"}
    return Arch(f"HRViT-{size}, UPerNet: {about}", build, options)


def _classifier(size: str, about: str) -> Arch:
    def build(num_classes: int, model: ModelConfig) -> HRViTClassifier:
        return HRViTClassifier(
            VARIANTS[size],
            num_classes,
            drop_path=_rate(model, CLASSIFIER_DROP_PATH),
            head_drop=HEAD_DROP if model.head_drop is None else model.head_drop,
            grad_ckpt=model.grad_ckpt,
        )

    options = TRUNK_OPTIONS | {"head_drop"}
    return Arch(f"HRViT-{size} as classifier: {about}", build, options, classifier=True)


# Numbers of parameters are those with 19 classes (light head), with 150 classes and the auxiliary
# head (UPerNet), and with 1000 classes.
ARCHS = {
    "b1_SegFormer": _segformer("b1", "8,149,451 parameters"),
    "b2_SegFormer": _segformer("b2", "20,776,115 parameters"),
    "b3_SegFormer": _segformer("b3", "28,623,755 parameters"),
    "b1_UPerNet": _upernet("b1", "35,952,100 parameters"),
    "b2_UPerNet": _upernet("b2", "49,696,972 parameters"),
    "b3_UPerNet": _upernet("b3", "55,815,588 parameters"),
    "b1_224": _classifier("b1", "19,685,152 parameters"),
    "b2_224": _classifier("b2", "32,486,408 parameters"),
    "b3_224": _classifier("b3", "37,870,304 parameters"),
}
