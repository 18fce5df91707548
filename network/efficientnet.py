# SPDX-License-Identifier: Apache-2.0
"""DeepLabV3+ on EfficientNet-Lite0, and that trunk as ImageNet classifier: networks for CPUs.

Sources: `network/backbones/efficientnet_lite.py`; Chen et al., "Encoder-Decoder with Atrous
Separable Convolution" (2018).
"""

from __future__ import annotations

from torch import Tensor, nn

from network.arch import Arch
from network.backbones.efficientnet_lite import EfficientNetLite0, norm
from network.contract import Network
from network.deepv3 import PLUS_OPTIONS, DeepV3Plus
from network.heads.aspp import RATES
from network.ops.init import init_transformer
from network.outputs import PRED
from settings.model import ModelConfig

HEAD_WIDTH, HEAD_DROP = 1280, 0.2


class LiteClassifier(Network):
    """Images (B, 3, H, W) to `pred` (B, K); names but `backbone` are timm's."""

    auxiliary_parts = ()

    def __init__(self, backbone: EfficientNetLite0, num_classes: int, head_drop: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.conv_head = nn.Conv2d(backbone.channels[-1], HEAD_WIDTH, 1, bias=False)
        self.bn2, self.act = norm(HEAD_WIDTH), nn.ReLU6(inplace=True)
        self.dropout = nn.Dropout(head_drop)
        self.classifier = nn.Linear(HEAD_WIDTH, num_classes)
        init_transformer(self.conv_head)
        init_transformer(self.classifier)
        self.take_input_norm(backbone.input_norm)

    @property
    def trunk(self) -> EfficientNetLite0:
        """The part `backbone`."""
        return self.backbone

    def forward(
        self, images: Tensor, rows: Tensor | None = None, return_all: bool = False
    ) -> dict[str, Tensor]:
        """`pred`; `rows` and `return_all` add nothing."""
        x = self.act(self.bn2(self.conv_head(self.backbone(self.own_inputs(images))[-1])))
        return {PRED: self.classifier(self.dropout(x.mean(dim=(2, 3))))}


def _classifier(num_classes: int, model: ModelConfig) -> LiteClassifier:
    trunk = EfficientNetLite0(32, grad_ckpt=model.grad_ckpt)
    drop = HEAD_DROP if model.head_drop is None else model.head_drop
    return LiteClassifier(trunk, num_classes, drop)


def _plus(stride: int) -> Arch:
    def build(num_classes: int, model: ModelConfig) -> DeepV3Plus:
        return DeepV3Plus(
            EfficientNetLite0(stride, grad_ckpt=model.grad_ckpt),
            num_classes,
            width=model.segattn_bot_ch,
            align_corners=model.align_corners,
            hanet=model,
            rates=RATES[stride],
        )

    about = f"DeepLabV3+ on EfficientNet-Lite0 at stride {stride}"
    return Arch(about, build, PLUS_OPTIONS | {"segattn_bot_ch"})


ARCHS = {
    "lite0_DeepV3Plus": _plus(16),
    "lite0_DeepV3Plus_OS8": _plus(8),
    "lite0_224": Arch(
        "EfficientNet-Lite0 as classifier",
        _classifier,
        frozenset({"grad_ckpt", "pretrained", "head_drop"}),
        classifier=True,
    ),
}
