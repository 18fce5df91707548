# SPDX-License-Identifier: Apache-2.0
"""HRNet with the OCR head, at one scale or with hierarchical multi-scale attention.

Sources: Yuan et al. (2019) for OCR; Tao, Sapra, Catanzaro (2020) for the multi-scale network,
whose published Cityscapes result of 86.92 mIoU is `ocrnet.HRNet_Mscale` at scales 0.5, 1, 2.
"""

from __future__ import annotations

from torch import Tensor, nn

from network.backbones.hrnet import HRNet as Trunk
from network.basic import HRNET_OPTIONS, hrnet_trunk
from network.heads.ocr import OCRHead
from network.multiscale import MSCALE_OPTIONS, MultiScale, hierarchical
from network.outputs import Maps, OneScale
from settings.model import ModelConfig

__all__ = [
    "HRNet",
    "HRNet18",
    "HRNet18_Mscale",
    "HRNet32",
    "HRNet32_Mscale",
    "HRNet_Mscale",
]

OCR_OPTIONS = HRNET_OPTIONS | {"ocr_mid_channels", "ocr_key_channels"}
USED_OPTIONS = {
    name: OCR_OPTIONS | MSCALE_OPTIONS if name.endswith("_Mscale") else OCR_OPTIONS
    for name in __all__
}
PUBLISHED = ModelConfig()


class HRNetOCR(OneScale):
    """Trunk and OCR head: (B, 3, H, W) -> `pred`, in training also `aux`."""

    def __init__(self, backbone: Trunk, ocr: OCRHead) -> None:
        super().__init__()
        self.backbone, self.ocr = backbone, ocr
        self.align_corners = backbone.align_corners
        self.feature_channels = ocr.mid_channels

    def maps(self, images: Tensor, rows: Tensor | None = None, *, features: bool = True) -> Maps:
        """One pass at stride 4; `feats` are the OCR features."""
        return self.ocr(self.backbone(images), features)


def _single(num_classes: int, model: ModelConfig, width: int) -> HRNetOCR:
    backbone = hrnet_trunk(model, width)
    ocr = OCRHead(
        backbone.channels,
        num_classes,
        mid_channels=model.ocr_mid_channels,
        key_channels=model.ocr_key_channels,
        align_corners=model.align_corners,
    )
    return HRNetOCR(backbone, ocr)


def _mscale(num_classes: int, model: ModelConfig, width: int) -> MultiScale:
    return hierarchical(_single(num_classes, model, width), model)


def HRNet(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """HRNet-W48 + OCR: 70,372,678 parameters with 19 classes."""
    return _single(num_classes, model, width=48)


def HRNet_Mscale(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """The published multi-scale network: 72,143,430 parameters with 19 classes."""
    return _mscale(num_classes, model, width=48)


def HRNet18(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """HRNet-W18 + OCR."""
    return _single(num_classes, model, width=18)


def HRNet18_Mscale(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """HRNet-W18 + OCR, multi-scale."""
    return _mscale(num_classes, model, width=18)


def HRNet32(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """HRNet-W32 + OCR."""
    return _single(num_classes, model, width=32)


def HRNet32_Mscale(num_classes: int, model: ModelConfig = PUBLISHED) -> nn.Module:
    """HRNet-W32 + OCR, multi-scale."""
    return _mscale(num_classes, model, width=32)
