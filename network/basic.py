# SPDX-License-Identifier: Apache-2.0
"""HRNet-W48 with a plain segmentation head, with and without ASPP before it."""

from __future__ import annotations

from torch import Tensor

from network.arch import Arch
from network.backbones.hrnet import PUBLISHED_BLOCKS, PUBLISHED_MODULES
from network.backbones.hrnet import HRNet as Trunk
from network.contract import OneScale
from network.heads.aspp import ASPP
from network.heads.segmentation import segmentation_head
from network.ops.conv import conv
from network.ops.init import init_kaiming
from network.ops.resize import concat_resized
from network.outputs import Maps
from settings.model import ModelConfig

HRNET_OPTIONS = frozenset(
    {"hrnet_width", "hrnet_modules", "hrnet_blocks", "grad_ckpt", "pretrained", "align_corners"}
)
HEAD_OPTIONS = HRNET_OPTIONS | {"segattn_bot_ch"}
ASPP_CHANNELS = 256


class PlainHRNet(OneScale):
    """Segmentation head `head_name` on all branches of HRNet, stride 4."""

    auxiliary_parts = ()
    backbone: Trunk

    def __init__(
        self, backbone: Trunk, num_classes: int, *, width: int = 256, head_name: str = "seg_head"
    ) -> None:
        super().__init__(
            backbone,
            feature_channels=sum(backbone.channels),
            align_corners=backbone.align_corners,
        )
        self.head_name = head_name
        head = segmentation_head(self.feature_channels, num_classes, width)
        init_kaiming(head)
        self.add_module(head_name, head)

    def one_pass(
        self, images: Tensor, rows: Tensor | None = None, *, features: bool = True
    ) -> Maps:
        """`feats` are the joined branches (B, 15w, h, w)."""
        feats = concat_resized(self.backbone(images), self.align_corners)
        return Maps(logits=self.get_submodule(self.head_name)(feats), feats=feats)


class HRNetASPP(OneScale):
    """ASPP of `bottleneck` channels a branch and segmentation head on HRNet, stride 4."""

    auxiliary_parts = ()
    backbone: Trunk

    def __init__(
        self, backbone: Trunk, num_classes: int, *, bottleneck: int = 256, width: int = 256
    ) -> None:
        super().__init__(
            backbone, feature_channels=ASPP_CHANNELS, align_corners=backbone.align_corners
        )
        self.aspp = ASPP(sum(backbone.channels), bottleneck, align_corners=self.align_corners)
        self.bot_aspp = conv(self.aspp.out_channels, ASPP_CHANNELS, 1)
        self.final = segmentation_head(ASPP_CHANNELS, num_classes, width)
        init_kaiming(self.final)

    def one_pass(
        self, images: Tensor, rows: Tensor | None = None, *, features: bool = True
    ) -> Maps:
        """`feats` (B, 256, h, w) enter the segmentation head."""
        branches = concat_resized(self.backbone(images), self.align_corners)
        feats = self.bot_aspp(self.aspp(branches))
        return Maps(logits=self.final(feats), feats=feats)


def hrnet_trunk(model: ModelConfig, width: int = 48) -> Trunk:
    """HRNet as `model` wants it; `width` is that of the architecture's name."""
    return Trunk(
        model.hrnet_width or width,
        modules=model.hrnet_modules or PUBLISHED_MODULES,
        blocks=model.hrnet_blocks or PUBLISHED_BLOCKS,
        align_corners=model.align_corners,
        grad_ckpt=model.grad_ckpt,
    )


def _plain(num_classes: int, model: ModelConfig) -> OneScale:
    return PlainHRNet(hrnet_trunk(model), num_classes, width=model.segattn_bot_ch)


def _with_aspp(num_classes: int, model: ModelConfig) -> OneScale:
    return HRNetASPP(
        hrnet_trunk(model),
        num_classes,
        bottleneck=model.aspp_bot_ch,
        width=model.segattn_bot_ch,
    )


ARCHS = {
    "HRNet": Arch("HRNet-W48: 67,579,712 parameters with 19 classes", _plain, HEAD_OPTIONS),
    "HRNet_ASP": Arch(
        "HRNet-W48 with ASPP: 72,186,176 parameters with 19 classes",
        _with_aspp,
        HEAD_OPTIONS | {"aspp_bot_ch"},
    ),
}
