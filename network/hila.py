# SPDX-License-Identifier: Apache-2.0
"""HILA, inter-level attention, on the trunks of SegFormer and Swin.

S(3) in a name says that stage 3 exchanges with stage 2, S(2,3,4) that all neighbours do;
`hila_stages` sets any other choice.

Source: Leung et al., "Improving Semantic Segmentation in Transformers using Hierarchical
Inter-Level Attention" (2022); Cityscapes val, several scales and flip, read off a figure: 78.7
mIoU (B0 S(3)), 81.7 (B1 S(3)), 82.4 (B1 S(2,3,4)).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from network.arch import Arch
from network.backbones.hila_mit import HilaMiT
from network.backbones.hila_swin import HilaSwin
from network.backbones.hila_update import Four, Hila
from network.backbones.mit import DROP_PATH, SIZES
from network.backbones.swin import SIZES as SWIN_SIZES
from network.contract import Network
from network.encoder_classifier import EncoderClassifier
from network.segformer import MIT_OPTIONS, depths_of, with_head
from network.swin import CLASSIFIER_DROP_PATH
from network.swin import classifier as swin_classifier
from network.swin import with_heads as swin_heads
from runtime.errors import UserError
from settings.model import ModelConfig

HILA_OPTIONS = MIT_OPTIONS | {
    "hila_stages",
    "hila_stride",
    "hila_heads",
    "hila_mlp_ratios",
    "hila_patch",
    "hila_share_topdown",
    "hila_share_bottomup",
    "hila_share_bottom",
    "hila_info_weights",
    "hila_euclidean",
    "hila_reuse_bottom",
}
# Updates of Swin serve all steps of a layer and have windows of 4 x 4.
ONLY_MIT = {
    "hila_patch",
    "hila_share_topdown",
    "hila_share_bottomup",
    "hila_share_bottom",
}
ONLY_SWIN = {"hila_legacy_shift", "hila_raw_levels"}
SWIN_OPTIONS = HILA_OPTIONS - ONLY_MIT | ONLY_SWIN


ONES: Four = (1, 1, 1, 1)
SWIN_DROP_PATH, SWIN_PATCH = 0.3, 4


def hila_of(
    model: ModelConfig, stages: tuple[int, ...], *, strides: Four = ONES, ratios: Four = (4,) * 4
) -> Hila:
    """The options of HILA in `model`; those of the name where it leaves one open.

    Raises UserError for a stage that has none below it, and for values out of range.
    """
    stages = stages if model.hila_stages is None else model.hila_stages
    if set(stages) - {2, 3, 4} or len(set(stages)) != len(stages):
        text = ",".join(map(str, stages))
        raise UserError(f"hila_stages={text}: some of 2,3,4 wanted, each once")
    if not stages:
        raise UserError(
            "hila_stages names no stage: some of 2,3,4 wanted; without inter-level attention the "
            "networks are segformer.B0 to B5, swin.T_UPerNet and swin.S_UPerNet"
        )
    per_stage = {
        "hila_stride": model.hila_stride,
        "hila_heads": model.hila_heads,
        "hila_mlp_ratios": model.hila_mlp_ratios,
    }
    for name, values in per_stage.items():
        if values is not None and min(values) < 1:
            raise UserError(f"{name}={','.join(map(str, values))}: every value must be at least 1")
    if model.hila_patch not in (2, 4, 6, 8):
        raise UserError(f"hila_patch={model.hila_patch}: 2, 4, 6 or 8 wanted")
    return Hila(
        stages=tuple(sorted(stages)),
        strides=model.hila_stride or strides,
        heads=model.hila_heads or ONES,
        ratios=model.hila_mlp_ratios or ratios,
        patch=model.hila_patch,
        share_topdown=model.hila_share_topdown,
        share_bottomup=model.hila_share_bottomup,
        share_bottom=model.hila_share_bottom,
        info_weights=model.hila_info_weights,
        euclidean=model.hila_euclidean,
        reuse_bottom=model.hila_reuse_bottom,
        legacy_shift=model.hila_legacy_shift,
        raw_levels=model.hila_raw_levels,
    )


def mit_trunk(
    model: ModelConfig,
    size: str,
    stages: tuple[int, ...],
    *,
    depths: Four | None = None,
    strides: Four = ONES,
) -> HilaMiT:
    """MiT of `size` whose `stages` exchange; `depths` where they are not those of MiT."""
    return HilaMiT(
        SIZES[size].channels,
        depths_of(model, depths or SIZES[size].depths),
        hila_of(model, stages, strides=strides),
        drop_path=DROP_PATH if model.drop_path is None else model.drop_path,
        grad_ckpt=model.grad_ckpt,
        file_depths=SIZES[size].depths if depths else None,
    )


def b2_trunk(model: ModelConfig) -> HilaMiT:
    """The published "B2": shallower than MiT-B2, and exchanging at every third block of stage 3."""
    return mit_trunk(model, "B2", (2, 3, 4), depths=(2, 2, 6, 2), strides=(1, 1, 3, 1))


def b3_trunk(model: ModelConfig) -> HilaMiT:
    """The published "B3", one block shallower than MiT-B3."""
    return mit_trunk(model, "B3", (2, 3, 4), depths=(3, 3, 18, 3))


def swin_trunk(model: ModelConfig, size: str, drop_path: float = SWIN_DROP_PATH) -> HilaSwin:
    """Swin of `size` with S(2,3,4), stride 2 in the third layer."""
    published = SWIN_SIZES[size]
    hila = hila_of(model, (2, 3, 4), strides=(1, 1, 2, 1), ratios=(2, 2, 2, 2))
    return HilaSwin(
        published.width,
        depths_of(model, published.depths),
        published.heads,
        dataclasses.replace(hila, patch=SWIN_PATCH),
        drop_path=drop_path if model.drop_path is None else model.drop_path,
        grad_ckpt=model.grad_ckpt,
    )


def _classifier(trunk: HilaMiT | HilaSwin, num_classes: int) -> Network:
    """Only the last map counts: norms of refined levels that nothing reads are not trained."""
    for module in trunk.last_norms():
        module.requires_grad_(False)
    if isinstance(trunk, HilaSwin):
        return swin_classifier(trunk, num_classes)
    return EncoderClassifier(trunk, num_classes)


MiTTrunk = Callable[[ModelConfig], HilaMiT]


def _mit(size: str, stages: tuple[int, ...]) -> MiTTrunk:
    return partial(mit_trunk, size=size, stages=stages)


def _on_mit(about: str, size: str, trunk: MiTTrunk) -> Arch:
    def build(num_classes: int, model: ModelConfig) -> Network:
        return with_head(trunk(model), size, num_classes, model)

    return Arch(about, build, HILA_OPTIONS | {"align_corners"})


def _mit_classifier(name: str, trunk: MiTTrunk) -> Arch:
    def build(num_classes: int, model: ModelConfig) -> Network:
        return _classifier(trunk(model), num_classes)

    return Arch(f"the trunk of {name} as classifier", build, HILA_OPTIONS, classifier=True)


def _on_swin(about: str, size: str) -> Arch:
    def build(num_classes: int, model: ModelConfig) -> Network:
        return swin_heads(swin_trunk(model, size), num_classes, model)

    return Arch(about, build, SWIN_OPTIONS | {"align_corners", "aux_head"})


def _swin_as_classifier(size: str) -> Arch:
    def build(num_classes: int, model: ModelConfig) -> Network:
        return _classifier(swin_trunk(model, size, CLASSIFIER_DROP_PATH), num_classes)

    about = f"the trunk of Swin{size}_S234 as classifier"
    return Arch(about, build, SWIN_OPTIONS, classifier=True)


MIT_TRUNKS: dict[str, MiTTrunk] = {
    "B0_S3": _mit("B0", (3,)),
    "B0_S34": _mit("B0", (3, 4)),
    "B1_S3": _mit("B1", (3,)),
    "B1_S34": _mit("B1", (3, 4)),
    "B1_S234": _mit("B1", (2, 3, 4)),
    "B2_S234": b2_trunk,
    "B3_S234": b3_trunk,
}
ABOUT = {  # numbers of parameters are those with 19 classes
    "B0_S3": "B0 with S(3): 4,144,435 parameters",
    "B0_S34": "B0 with S(3,4): 5,581,299 parameters",
    "B1_S3": "B1 with S(3): 15,352,083 parameters",
    "B1_S34": "B1 with S(3,4): 21,035,603 parameters",
    "B1_S234": "B1 with S(2,3,4): 21,574,035 parameters",
    "B2_S234": 'the published "B2": depths 2,2,6,2 and stride 3 in stage 3; 30,833,555 parameters',
    "B3_S234": "B3 with S(2,3,4), one block less in stage 2 than MiT-B3: 54,663,059 parameters",
}
ARCHS = {
    **{name: _on_mit(ABOUT[name], name[:2], trunk) for name, trunk in MIT_TRUNKS.items()},
    **{f"{name}_224": _mit_classifier(name, trunk) for name, trunk in MIT_TRUNKS.items()},
    "SwinT_S234": _on_swin("Swin-T and UPerNet with S(2,3,4), stride 2 in the third layer", "T"),
    "SwinS_S234": _on_swin("Swin-S likewise; not published, strides as in Swin-T", "S"),
    "SwinT_S234_224": _swin_as_classifier("T"),
    "SwinS_S234_224": _swin_as_classifier("S"),
}
