# SPDX-License-Identifier: Apache-2.0
"""DeepLabV3 and DeepLabV3+ at stride 8 on several trunks.

Sources: Chen et al., "Rethinking Atrous Convolution" (2017) and "Encoder-Decoder with Atrous
Separable Convolution" (2018).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from network.backbones.three_maps import ThreeMaps
from network.backbones.trunks import make_trunk
from network.heads.aspp import ASPP
from network.heads.hanet import HANET_OPTIONS
from network.heads.hanet_places import HANetPlaces
from network.heads.segmentation import segmentation_head, start_kaiming
from network.ops.conv import conv
from network.ops.resize import resize, size_of
from network.outputs import Maps, OneScale
from settings.model import ModelConfig

__all__ = [
    "DeepV3PlusEffB4",
    "DeepV3PlusR50",
    "DeepV3PlusSRNX101",
    "DeepV3PlusSRNX50",
    "DeepV3PlusW38",
    "DeepV3PlusW38I",
    "DeepV3PlusX71",
    "DeepV3R50",
]

TRUNK_OPTIONS = frozenset({"grad_ckpt", "pretrained", "align_corners"})
PLUS_OPTIONS = TRUNK_OPTIONS | HANET_OPTIONS  # of DeepLabV3+
USED_OPTIONS = {name: PLUS_OPTIONS for name in __all__} | {
    "DeepV3R50": TRUNK_OPTIONS | {"segattn_bot_ch"}
}
PUBLISHED = ModelConfig()
FINE_CHANNELS, ASPP_CHANNELS = 48, 256


class DeepV3Plus(HANetPlaces):
    """ASPP on the final map of `backbone`, joined with its low map: scores at its stride.

    `hanet` says which height gates it has; that of the final map is computed from the second
    map of the trunk.
    """

    def __init__(
        self,
        backbone: ThreeMaps,
        num_classes: int,
        *,
        width: int = 256,
        align_corners: bool = False,
        kaiming_all: bool = False,
        hanet: ModelConfig = PUBLISHED,
    ) -> None:
        super().__init__()
        low, second, final = backbone.channels
        self.backbone, self.align_corners = backbone, align_corners
        self.feature_channels = FINE_CHANNELS + ASPP_CHANNELS
        self.aspp = ASPP(final, align_corners=align_corners)
        context = self.aspp.out_channels
        self.bot_fine = conv(low, FINE_CHANNELS, 1)
        self.bot_aspp = conv(context, ASPP_CHANNELS, 1)
        self.final = segmentation_head(self.feature_channels, num_classes, width)
        start_kaiming(self.final)
        if kaiming_all:
            start_kaiming(self.aspp, self.bot_fine, self.bot_aspp)
        self.add_blocks(
            hanet,
            [
                (second, final),
                (final, context),
                (context, ASPP_CHANNELS),
                (self.feature_channels, width),
                (width, num_classes),
            ],
        )

    def encode(self, images: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The low map (B, C, h, w) and the ASPP map (B, 1280, h', w') at stride 8."""
        low, second, final = self.backbone(images)
        final = self.gate(0, second, final, rows)
        del second  # large, and of no more use
        return low, self.gate(1, final, self.aspp(final), rows)

    def decode(self, low: Tensor, context: Tensor, rows: Tensor | None = None) -> Maps:
        """logits (B, K, h, w) and feats (B, 304, h, w) from the two maps of `encode`."""
        narrow = self.gate(2, context, self.bot_aspp(context), rows)
        wide = resize(narrow, size_of(low), self.align_corners)
        feats = torch.cat([self.bot_fine(low), wide], dim=1)
        *layers, last = self.final
        decoded = feats
        for layer in layers:
            decoded = layer(decoded)
        decoded = self.gate(3, feats, decoded, rows)
        logits, row_logits = self.gate_scores(decoded, last(decoded), rows)
        return Maps(logits=logits, feats=feats, row_logits=row_logits)

    def maps(self, images: Tensor, rows: Tensor | None = None, *, features: bool = True) -> Maps:
        """One pass; the features come for free."""
        return self.decode(*self.encode(images, rows), rows)


class DeepV3(OneScale):
    """ASPP and segmentation head on the final map of `backbone`."""

    def __init__(
        self,
        backbone: ThreeMaps,
        num_classes: int,
        *,
        width: int = 256,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        channels = backbone.channels
        self.backbone, self.align_corners = backbone, align_corners
        self.aspp = ASPP(channels[-1], align_corners=align_corners)
        self.feature_channels = self.aspp.out_channels
        self.final = segmentation_head(self.feature_channels, num_classes, width)
        start_kaiming(self.final)

    def maps(self, images: Tensor, rows: Tensor | None = None, *, features: bool = True) -> Maps:
        """One pass at stride 8; feats (B, 1280, h, w)."""
        feats = self.aspp(self.backbone(images)[-1])
        return Maps(logits=self.final(feats), feats=feats)


def deepv3_plus(
    num_classes: int,
    model: ModelConfig,
    trunk: str,
    *,
    width: int = 256,
    kaiming_all: bool = False,
) -> DeepV3Plus:
    """DeepLabV3+ on `trunk`, a name of `network/backbones/trunks.py`."""
    return DeepV3Plus(
        make_trunk(trunk, grad_ckpt=model.grad_ckpt),
        num_classes,
        width=width,
        align_corners=model.align_corners,
        kaiming_all=kaiming_all,
        hanet=model,
    )


def DeepV3PlusR50(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """DeepLabV3+ on ResNet-50: 40,351,040 parameters with 19 classes."""
    return deepv3_plus(num_classes, model, "resnet-50")


def DeepV3PlusW38(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """DeepLabV3+ on WiderResNet-38: 137,103,936 parameters with 19 classes."""
    return deepv3_plus(num_classes, model, "wrn38")


def DeepV3PlusW38I(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """`DeepV3PlusW38` with ASPP and bottlenecks initialised like the final head."""
    return deepv3_plus(num_classes, model, "wrn38", kaiming_all=True)


def DeepV3PlusX71(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """DeepLabV3+ on Xception-71: 54,632,240 parameters with 19 classes."""
    return deepv3_plus(num_classes, model, "xception71")


def DeepV3PlusSRNX50(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """DeepLabV3+ on SE-ResNeXt-50: 42,353,904 parameters with 19 classes."""
    # differs: the reference builds `bot_fine` for 48 channels, which its own trunk does not give.
    return deepv3_plus(num_classes, model, "seresnext-50")


def DeepV3PlusSRNX101(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """DeepLabV3+ on SE-ResNeXt-101: 63,749,424 parameters with 19 classes."""
    return deepv3_plus(num_classes, model, "seresnext-101")


def DeepV3PlusEffB4(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """DeepLabV3+ on EfficientNet-B4, a trunk that the reference names but lacks."""
    return deepv3_plus(num_classes, model, "efficientnet-b4")


def DeepV3R50(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """DeepLabV3 on ResNet-50: 42,259,776 parameters with 19 classes."""
    trunk = make_trunk("resnet-50", grad_ckpt=model.grad_ckpt)
    return DeepV3(trunk, num_classes, width=model.segattn_bot_ch, align_corners=model.align_corners)
