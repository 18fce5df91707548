# SPDX-License-Identifier: Apache-2.0
"""SegFormer B0 to B5, the MiT trunk with the all-MLP head, and MiT as ImageNet classifier.

Source: Xie et al., "SegFormer" (2021); Cityscapes val mIoU 76.2 (B0) to 82.4 (B5) at one scale.
"""

from __future__ import annotations

from network.arch import Arch
from network.backbones.mit import DROP_PATH, SIZES, Four, MiT
from network.encoder_classifier import EncoderClassifier
from network.encoder_decoder import EncoderDecoder
from network.heads.segformer import SegFormerHead
from runtime.errors import UserError
from settings.model import ModelConfig

MIT_OPTIONS = frozenset({"drop_path", "grad_ckpt", "pretrained", "stage_depths"})


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


def _segformer(size: str, parameters: str) -> Arch:
    def build(num_classes: int, model: ModelConfig) -> EncoderDecoder:
        return with_head(mit(model, size), size, num_classes, model)

    about = f"SegFormer-{size}: {parameters} parameters with 19 classes"
    return Arch(about, build, MIT_OPTIONS | {"align_corners"})


def _classifier(size: str) -> Arch:
    def build(num_classes: int, model: ModelConfig) -> EncoderClassifier:
        return EncoderClassifier(mit(model, size), num_classes)

    return Arch(f"MiT-{size} as classifier", build, MIT_OPTIONS, classifier=True)


ARCHS = {
    "B0": _segformer("B0", "3,719,027"),
    "B1": _segformer("B1", "13,682,131"),
    "B2": _segformer("B2", "27,361,235"),
    "B3": _segformer("B3", "47,237,075"),
    "B4": _segformer("B4", "64,007,635"),
    "B5": _segformer("B5", "84,607,955"),
    **{f"{size}_224": _classifier(size) for size in SIZES},
}
