# SPDX-License-Identifier: Apache-2.0
"""DeepLabV3 and DeepLabV3+ at stride 8 on several trunks.

Sources: Chen et al., "Rethinking Atrous Convolution" (2017) and "Encoder-Decoder with Atrous
Separable Convolution" (2018).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from network.arch import Arch
from network.backbones.deeplab_trunks import make_trunk
from network.backbones.three_maps import ThreeMaps
from network.backbones.trunk import Trunk
from network.contract import OneScale
from network.heads.aspp import ASPP, STRIDE_8_RATES
from network.heads.hanet import HANET_OPTIONS
from network.heads.segmentation import segmentation_head
from network.height_gates import HeightGated
from network.ops.conv import conv
from network.ops.init import init_kaiming
from network.ops.resize import resize, size_of
from network.outputs import Maps
from settings.model import ModelConfig

TRUNK_OPTIONS = frozenset({"grad_ckpt", "pretrained", "align_corners"})
PLUS_OPTIONS = TRUNK_OPTIONS | HANET_OPTIONS  # of DeepLabV3+
FINE_CHANNELS, ASPP_CHANNELS = 48, 256


class DeepV3Plus(HeightGated):
    """ASPP on the final map of `backbone`, joined with its low map: scores at its stride.

    `rates` are the dilations of the ASPP. `hanet` says which height gates it has; that of the
    final map is computed from the second map of the trunk, which has three.
    """

    backbone: Trunk

    def __init__(
        self,
        backbone: Trunk,
        num_classes: int,
        *,
        width: int = 256,
        align_corners: bool = False,
        kaiming_all: bool = False,
        rates: tuple[int, int, int] = STRIDE_8_RATES,
        hanet: ModelConfig | None = None,
    ) -> None:
        super().__init__(
            backbone,
            feature_channels=FINE_CHANNELS + ASPP_CHANNELS,
            align_corners=align_corners,
        )
        low, second, final = backbone.channels
        self.aspp = ASPP(final, rates=rates, align_corners=align_corners)
        context = self.aspp.out_channels
        self.bot_fine = conv(low, FINE_CHANNELS, 1)
        self.bot_aspp = conv(context, ASPP_CHANNELS, 1)
        self.final = segmentation_head(self.feature_channels, num_classes, width)
        init_kaiming(self.final)
        if kaiming_all:
            init_kaiming(self.aspp, self.bot_fine, self.bot_aspp)
        self.add_blocks(
            hanet or ModelConfig(),
            [
                (second, final),
                (final, context),
                (context, ASPP_CHANNELS),
                (self.feature_channels, width),
                (width, num_classes),
            ],
        )

    def encode(self, images: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The low map (B, C, h, w) and the ASPP map (B, 1280, h', w') of the final map."""
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

    def one_pass(
        self, images: Tensor, rows: Tensor | None = None, *, features: bool = True
    ) -> Maps:
        """All maps; the features come for free."""
        return self.decode(*self.encode(images, rows), rows)


class DeepV3(OneScale):
    """ASPP and segmentation head on the final map of `backbone`."""

    auxiliary_parts = ()
    backbone: ThreeMaps

    def __init__(
        self,
        backbone: ThreeMaps,
        num_classes: int,
        *,
        width: int = 256,
        align_corners: bool = False,
    ) -> None:
        aspp = ASPP(backbone.channels[-1], align_corners=align_corners)
        super().__init__(backbone, feature_channels=aspp.out_channels, align_corners=align_corners)
        self.aspp = aspp
        self.final = segmentation_head(self.feature_channels, num_classes, width)
        init_kaiming(self.final)

    def one_pass(
        self, images: Tensor, rows: Tensor | None = None, *, features: bool = True
    ) -> Maps:
        """Maps at stride 8; `feats` (B, 1280, h, w)."""
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
    """DeepLabV3+ on `trunk`, a name of `network/backbones/deeplab_trunks.py`."""
    return DeepV3Plus(
        make_trunk(trunk, grad_ckpt=model.grad_ckpt),
        num_classes,
        width=width,
        align_corners=model.align_corners,
        kaiming_all=kaiming_all,
        hanet=model,
    )


def _plus(about: str, trunk: str, *, kaiming_all: bool = False) -> Arch:
    build = partial(deepv3_plus, trunk=trunk, kaiming_all=kaiming_all)
    return Arch(about, build, PLUS_OPTIONS)


def _deepv3(num_classes: int, model: ModelConfig) -> DeepV3:
    trunk = make_trunk("resnet-50", grad_ckpt=model.grad_ckpt)
    return DeepV3(trunk, num_classes, width=model.segattn_bot_ch, align_corners=model.align_corners)


# Numbers of parameters are those with 19 classes.
ARCHS = {
    "DeepV3PlusR50": _plus("DeepLabV3+ on ResNet-50: 40,351,040 parameters", "resnet-50"),
    "DeepV3PlusW38": _plus("DeepLabV3+ on WiderResNet-38: 137,103,936 parameters", "wrn38"),
    "DeepV3PlusW38I": _plus(
        "DeepV3PlusW38 with ASPP and bottlenecks initialised like the final head",
        "wrn38",
        kaiming_all=True,
    ),
    "DeepV3PlusX71": _plus("DeepLabV3+ on Xception-71: 54,632,240 parameters", "xception71"),
    # differs: the reference builds `bot_fine` for 48 channels, which its own trunk does not give.
    "DeepV3PlusSRNX50": _plus("DeepLabV3+ on SE-ResNeXt-50: 42,353,904 parameters", "seresnext-50"),
    "DeepV3PlusSRNX101": _plus(
        "DeepLabV3+ on SE-ResNeXt-101: 63,749,424 parameters", "seresnext-101"
    ),
    "DeepV3PlusEffB4": _plus(
        "DeepLabV3+ on EfficientNet-B4, a trunk that the reference names but lacks",
        "efficientnet-b4",
    ),
    "DeepV3R50": Arch(
        "DeepLabV3 on ResNet-50: 42,259,776 parameters",
        _deepv3,
        TRUNK_OPTIONS | {"segattn_bot_ch"},
    ),
}
