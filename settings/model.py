# SPDX-License-Identifier: Apache-2.0
"""Options of the networks: one group per family, all together `ModelConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from runtime.errors import UserError
from runtime.normalisation import text_problem
from settings.declare import APPLIED, BOTH, IN_FILE, UNRELATED, Bounds, Group, setting
from settings.hanet import HanetOptions
from settings.hila import HilaOptions
from settings.ranges import SCALES, WIDTHS


@dataclass(frozen=True, kw_only=True)
class AttentionOptions:
    """Several scales inside the network, and the heads that weigh them."""

    GROUP: ClassVar[Group] = Group(title="network options", task=BOTH, resume=IN_FILE)

    n_scales: tuple[float, ...] | None = setting(
        None, "--n_scales", bounds=SCALES, help="scales of in-network inference, e.g. 0.5,1.0,2.0"
    )
    mscale_lo_scale: float = setting(
        0.5,
        "--mscale_lo_scale",
        bounds=Bounds(0.05, 0.95),
        help="lower scale of the pair that multi-scale networks train on",
    )
    segattn_bot_ch: int = setting(
        256,
        "--segattn_bot_ch",
        bounds=WIDTHS,
        help="width of the attention head and the segmentation heads",
    )
    aspp_bot_ch: int = setting(
        256, "--aspp_bot_ch", bounds=WIDTHS, help="width of the ASPP bottleneck"
    )
    mscale_dropout: bool = setting(
        False, "--mscale_dropout", help="dropout 0.5 in the attention head"
    )
    mscale_no3x3: bool = setting(
        False, "--mscale_no3x3", help="attention head without its second 3x3 convolution"
    )
    mscale_old_arch: bool = setting(
        False,
        "--mscale_old_arch",
        help="attention head with plain indices as keys, weights start at zero",
    )
    attnscale_bn_head: bool = setting(
        False, "--attnscale_bn_head", help="batch norm in the attnscale head"
    )


@dataclass(frozen=True, kw_only=True)
class HRNetOptions:
    """HRNet and the object-contextual head."""

    GROUP: ClassVar[Group] = Group(title="network options", task=BOTH, resume=IN_FILE)

    hrnet_width: int | None = setting(
        None,
        bounds=Bounds(1, 512),
        help="channels of the first HRNet branch; none: the published ones",
    )
    hrnet_modules: tuple[int, int, int] | None = setting(
        None, bounds=Bounds(1, 16), help="modules of HRNet's stages 2 to 4; published 1,4,3"
    )
    hrnet_blocks: int | None = setting(
        None, bounds=Bounds(1, 16), help="blocks of an HRNet branch; published 4"
    )
    ocr_mid_channels: int = setting(512, bounds=WIDTHS, help="channels of OCR's pixel features")
    ocr_key_channels: int = setting(256, bounds=WIDTHS, help="channels of OCR's keys and queries")


@dataclass(frozen=True, kw_only=True)
class QueryOptions:
    """UN-EPT's pixel queries."""

    GROUP: ClassVar[Group] = Group(title="network options", task=BOTH, resume=IN_FILE)

    query_grid: tuple[int, int] = setting(
        (60, 60),
        bounds=Bounds(0, 4096),
        help="UN-EPT: rows and columns of learned pixel queries: crop / 8",
    )
    batch_attention: str = setting(
        "never",
        choices=("never", "training", "always"),
        help="UN-EPT: images of a batch attend to each other: never, training (as published) or "
        "always",
    )


@dataclass(frozen=True, kw_only=True)
class TrunkOptions:
    """The trunk of an architecture that takes any model of timm."""

    GROUP: ClassVar[Group] = Group(title="network options", task=BOTH, resume=IN_FILE)

    trunk: str = setting(
        "",
        "--trunk",
        help="timm.* architectures: a model of timm, e.g. convnext_tiny; empty: resnet50",
        metavar="MODEL",
    )
    output_stride: int | None = setting(
        None,
        "--output_stride",
        bounds=Bounds(8, 32),
        help="timm.* architectures: stride of the last map, 8, 16 or 32; none: that of the model",
    )
    trunk_size: tuple[int, int] | None = setting(
        None,
        bounds=Bounds(32, 4096),
        help="height and width for which a timm model of a fixed size is built; none: its own",
    )


@dataclass(frozen=True, kw_only=True)
class ModelConfig(
    TrunkOptions, HilaOptions, HanetOptions, QueryOptions, HRNetOptions, AttentionOptions
):
    """Options of the networks; the keyword arguments of `network.build.build_net`.

    Each network reads some of them and refuses the rest where they are set. The fields of the last
    base come first: in `--help`, and in the line about options that a network does not use.
    """

    GROUP: ClassVar[Group] = Group(title="network options", task=BOTH, resume=IN_FILE)

    align_corners: bool = setting(
        False, "--align_corners", help="align corners in every bilinear resize"
    )
    boundary_heads: bool = setting(
        False,
        help="mask and direction heads for --dt_offset_wt, on a network that has none of its own",
    )
    drop_path: float | None = setting(
        None,
        "--drop_path",
        bounds=Bounds(0, 0.9),
        help="largest stochastic depth rate of a transformer; none: the published one",
    )
    head_drop: float | None = setting(
        None,
        "--head_drop",
        bounds=Bounds(0, 0.9),
        help="dropout before the last layer of a classifier; none: the published one",
    )
    aux_head: bool = setting(
        True, help="supervise an inner map too, where the arch has such a head"
    )
    stage_depths: tuple[int, int, int, int] | None = setting(
        None,
        bounds=Bounds(0, 64),
        help="blocks per stage of a transformer; none: the published ones",
    )
    grad_ckpt: bool = setting(
        False,
        "--grad_ckpt",
        help="less memory: recompute the trunk in the backward pass",
        resume=APPLIED,
    )
    input_norm: str | None = setting(
        None,
        "--input_norm",
        check=text_problem,
        help="mean and deviation of the inputs that the weights want, where their file does not "
        "say: imagenet, half, unit, clip or M,M,M/S,S,S",
        metavar="NORM",
    )
    pretrained: str = setting(
        "",
        "--pretrained",
        path=True,
        help="ImageNet weights of the trunk: a file, a folder or a name to fetch, as for "
        "--snapshot; empty: random start",
        metavar="FILE",
        resume=UNRELATED,
    )


def check_scales(scales: tuple[float, ...] | None) -> None:
    """Raise UserError unless the inference scales are in range and contain 1.0 once."""
    if scales is None:
        return
    text = ",".join(f"{scale:g}" for scale in scales)
    if any(not 0.05 <= scale <= 8 for scale in scales):
        raise UserError(f"--n_scales {text}: every scale must lie in 0.05..8")
    if 1.0 not in scales:
        raise UserError(f"--n_scales {text}: 1.0 must be one of the scales")
    if len(set(scales)) != len(scales):
        raise UserError(f"--n_scales {text}: a scale stands twice")
