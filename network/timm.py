# SPDX-License-Identifier: Apache-2.0
"""The heads of this program on any trunk of timm: `--arch timm.OCR --trunk convnext_tiny`.

`--trunk` names the model; without it the trunk is a ResNet-50. Nothing here imports timm: the
trunk does when it is built.

Sources: Chen et al. (2018) for DeepLabV3+; Yuan et al. (2019) for OCR; Xie et al. (2021) for the
head of SegFormer; Xiao et al. (2018) for UPerNet.
"""

from __future__ import annotations

from torch import Tensor, nn

from network.arch import Arch
from network.backbones.timm_trunk import TimmTrunk
from network.contract import OneScale
from network.deepv3 import PLUS_OPTIONS, DeepV3Plus
from network.encoder_decoder import EncoderDecoder
from network.heads.aspp import RATES
from network.heads.fcn import FCNHead
from network.heads.ocr import OCRHead
from network.heads.segformer import SegFormerHead
from network.heads.uper import UPerHead
from network.ops.conv import conv_bn_relu
from network.outputs import Maps
from settings.model import ModelConfig

TRUNK_OPTIONS = frozenset(
    {
        "trunk",
        "trunk_size",
        "output_stride",
        "drop_path",
        "grad_ckpt",
        "pretrained",
        "align_corners",
    }
)
PLUS_STRIDES = (8, 16, 32)  # of the last map of DeepLabV3+
OCR_WIDTH = 720  # of all levels together: about what HRNet-W48 hands to its head


class TimmOCR(OneScale):
    """OCR on all maps of the trunk, each first brought to an equal share of `OCR_WIDTH`."""

    gives_aux = True
    auxiliary_parts = ()  # the scores of `ocr.aux_head` also say where the regions are
    backbone: TimmTrunk

    def __init__(self, backbone: TimmTrunk, num_classes: int, model: ModelConfig) -> None:
        super().__init__(
            backbone, feature_channels=model.ocr_mid_channels, align_corners=model.align_corners
        )
        count = len(backbone.channels)
        share = OCR_WIDTH // count
        self.levels = nn.ModuleList(conv_bn_relu(each, share, 1) for each in backbone.channels)
        self.ocr = OCRHead(
            [share] * count,
            num_classes,
            mid_channels=model.ocr_mid_channels,
            key_channels=model.ocr_key_channels,
            align_corners=model.align_corners,
        )

    def one_pass(
        self, images: Tensor, rows: Tensor | None = None, *, features: bool = True
    ) -> Maps:
        """Maps at the stride of the finest map of the trunk; `feats` are the OCR features."""
        maps = zip(self.levels, self.backbone(images), strict=True)
        return self.ocr([level(x) for level, x in maps], features)


def _trunk(model: ModelConfig, three: bool = False) -> TimmTrunk:
    """The trunk that `model` wants; the second of three maps is for the first HANet block alone."""
    return TimmTrunk(
        model.trunk,
        three=three,
        second=bool(model.hanet[0]),
        output_stride=model.output_stride,
        size=model.trunk_size,
        drop_path=model.drop_path,
        grad_ckpt=model.grad_ckpt,
    )


def _deeplab(num_classes: int, model: ModelConfig) -> DeepV3Plus:
    trunk = _trunk(model, three=True)
    nearest = min(PLUS_STRIDES, key=lambda stride: abs(stride - trunk.strides[-1]))
    return DeepV3Plus(
        trunk,
        num_classes,
        width=model.segattn_bot_ch,
        align_corners=model.align_corners,
        rates=RATES[nearest],
        hanet=model,
    )


def _ocr(num_classes: int, model: ModelConfig) -> TimmOCR:
    return TimmOCR(_trunk(model), num_classes, model)


def _segformer(num_classes: int, model: ModelConfig) -> EncoderDecoder:
    trunk = _trunk(model)
    head = SegFormerHead(
        trunk.channels, num_classes, width=model.segattn_bot_ch, align_corners=model.align_corners
    )
    return EncoderDecoder(trunk, head, align_corners=model.align_corners)


def _upernet(num_classes: int, model: ModelConfig) -> EncoderDecoder:
    trunk = _trunk(model)
    head = UPerHead(trunk.channels, num_classes, align_corners=model.align_corners)
    inner = len(trunk.channels) - 2  # the last map but one, at stride 16 of four
    auxiliary = FCNHead(trunk.channels[inner], num_classes, index=inner) if model.aux_head else None
    return EncoderDecoder(trunk, head, auxiliary, align_corners=model.align_corners)


# Numbers of parameters are those on ResNet-50 with 19 classes.
ARCHS = {
    "DeepLabV3Plus": Arch(
        "DeepLabV3+ on a trunk of timm",
        _deeplab,
        TRUNK_OPTIONS | PLUS_OPTIONS | {"segattn_bot_ch"},
    ),
    "OCR": Arch(
        "OCR on a trunk of timm",
        _ocr,
        TRUNK_OPTIONS | {"ocr_mid_channels", "ocr_key_channels"},
    ),
    "SegFormer": Arch(
        "the all-MLP head of SegFormer on a trunk of timm",
        _segformer,
        TRUNK_OPTIONS | {"segattn_bot_ch"},
    ),
    "UPerNet": Arch(
        "UPerNet on a trunk of timm, with an auxiliary head", _upernet, TRUNK_OPTIONS | {"aux_head"}
    ),
}
