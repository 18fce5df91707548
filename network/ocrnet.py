# SPDX-License-Identifier: Apache-2.0
"""HRNet with the OCR head, at one scale or with hierarchical multi-scale attention.

Sources: Yuan et al. (2019) for OCR; Tao, Sapra, Catanzaro (2020) for the multi-scale network,
whose published Cityscapes result of 86.92 mIoU is `ocrnet.HRNet_Mscale` at scales 0.5, 1, 2.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from network.arch import Arch
from network.backbones.hrnet import HRNet as Trunk
from network.basic import HRNET_OPTIONS, hrnet_trunk
from network.contract import OneScale
from network.heads.ocr import OCRHead
from network.multiscale import MSCALE_OPTIONS, MultiScale, hierarchical
from network.outputs import Maps
from settings.model import ModelConfig

OCR_OPTIONS = HRNET_OPTIONS | {"ocr_mid_channels", "ocr_key_channels"}


class HRNetOCR(OneScale):
    """Trunk and OCR head: (B, 3, H, W) -> `pred`, in training also `aux`."""

    gives_aux = True
    auxiliary_parts = ()  # the scores of `ocr.aux_head` also say where the regions are
    backbone: Trunk

    def __init__(self, backbone: Trunk, ocr: OCRHead) -> None:
        super().__init__(
            backbone, feature_channels=ocr.mid_channels, align_corners=backbone.align_corners
        )
        self.ocr = ocr

    def one_pass(
        self, images: Tensor, rows: Tensor | None = None, *, features: bool = True
    ) -> Maps:
        """Maps at stride 4; `feats` are the OCR features."""
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


def _one(about: str, width: int) -> Arch:
    return Arch(about, partial(_single, width=width), OCR_OPTIONS)


def _several(about: str, width: int) -> Arch:
    return Arch(about, partial(_mscale, width=width), OCR_OPTIONS | MSCALE_OPTIONS)


ARCHS = {
    "HRNet": _one("HRNet-W48 + OCR: 70,372,678 parameters with 19 classes", 48),
    "HRNet_Mscale": _several("the published network: 72,143,430 parameters with 19 classes", 48),
    "HRNet18": _one("HRNet-W18 + OCR", 18),
    "HRNet18_Mscale": _several("HRNet-W18 + OCR, multi-scale", 18),
    "HRNet32": _one("HRNet-W32 + OCR", 32),
    "HRNet32_Mscale": _several("HRNet-W32 + OCR, multi-scale", 32),
}
