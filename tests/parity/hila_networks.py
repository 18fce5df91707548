# SPDX-License-Identifier: Apache-2.0
"""Recorded SegFormer and HILA networks: maps, logits and attention weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from network.backbones.mit import SIZES
from network.build import build_net
from network.convert import load_official
from network.ops.inter_level import recorded_attention
from tests.parity.core import Check, Row
from tests.parity.fixture import CannotRun, Fixture, Record
from tests.parity.networks import draw_images, output_rows, params_rows, recorded_state

BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "flag", "position_index")


ARCHS = {f"mit_b{n}": f"segformer.B{n}" for n in range(6)} | {
    "def_b0_hila": "hila.B0_S3",
    "def_b1_hila": "hila.B1_S3",
    "def_b2_hila": "hila.B2_S234",
    "def_b3_hila": "hila.B3_S234",
    "def_swin_t_hila": "hila.SwinT_S234",
    "def_swin_s_hila": "hila.SwinS_S234",
}
OPTIONS = {  # names of a recorded trunk -> ours
    "depths": "stage_depths",
    "drop_path_rate": "drop_path",
    "hila_num_heads": "hila_heads",
    "hila_stride": "hila_stride",
    "hila_mlp_ratios": "hila_mlp_ratios",
    "hila_patch_size": "hila_patch",
    "share_td_weights": "hila_share_topdown",
    "share_bu_weights": "hila_share_bottomup",
    "share_bottom_weights": "hila_share_bottom",
    "info_weights": "hila_info_weights",
    "use_euc_dist": "hila_euclidean",
}
WITHOUT_EFFECT = {  # on the numbers, with the values that occur
    "attn_drop_rate", "drop_rate", "imagenet_pretraining", "pretrained", "qk_scale", "qkv_bias",
    "reuse_bottomsa_pretraining", "store_attn", "style", "type",
}  # fmt: skip
DEFAULT_PAIRS = [[2, 3]]
# The published trunk where a config says nothing; our names stand for the configs instead.
HILA_DEFAULTS: dict[str, dict[str, Any]] = {
    f"def_b{n}_hila": {
        "stage_depths": [3, 3, 18, 3] if n == 3 else SIZES[f"B{n}"].depths,
        "hila_stride": [1, 1, 1, 1],
        "hila_info_weights": [1.0, 1.0],
    }
    for n in range(4)
}
for _size in ("t", "s"):
    HILA_DEFAULTS[f"def_swin_{_size}_hila"] = {
        "hila_stride": [1, 1, 1, 1],
        "hila_mlp_ratios": [4, 4, 4, 4],
        "hila_raw_levels": True,
        "hila_legacy_shift": True,
    }
ATTENTION = "attn."


def stages_of(trunk: dict[str, Any]) -> list[int]:
    """The top stages counted from 1: recorded as pairs, or in Swin as layers counted from 0."""
    entries = trunk.get("hila_attn", DEFAULT_PAIRS)
    return [each[1] if isinstance(each, list) else each + 1 for each in entries]


def network_of(header: Record) -> nn.Module:
    """Our network with the options of a recorded one."""
    trunk = header["config"].plain()["backbone"]
    kind = trunk["type"]
    options = {OPTIONS[k]: v for k, v in trunk.items() if k in OPTIONS}
    unknown = trunk.keys() - OPTIONS.keys() - WITHOUT_EFFECT - {"hila_attn"}
    if kind not in ARCHS:
        raise CannotRun(f"config: {kind} is no known trunk")
    if unknown:
        raise CannotRun(f"config: {', '.join(sorted(unknown))} is no known option of {kind}")
    if kind.endswith("_hila"):
        options["hila_stages"] = stages_of(trunk)
        options = {**HILA_DEFAULTS[kind], **options}
    return build_net(ARCHS[kind], header["num_classes"], **options)


def build(header: Record) -> nn.Module:
    """Our network with the options of a recorded one, in eval mode."""
    return network_of(header).eval()


def load(net: nn.Module, fixture: Fixture) -> int:
    """Fill `net` with the recorded weights; how many parameters of them it left out."""
    manifest = fixture.header["manifest"].plain()
    report = load_official(net, recorded_state(fixture))
    parameters = (key for key in report.dropped if not key.endswith(BUFFERS))
    return sum(math.prod(manifest[key][0]) for key in parameters)


@torch.inference_mode()
def check_network(fixture: Fixture) -> list[Row]:
    """Parameter count and every recorded output, also of a second call where there was one."""
    header, net = fixture.header, build(fixture.header)
    left_out = load(net, fixture)
    count = left_out + sum(item.numel() for item in net.parameters())
    rows = params_rows(fixture, count)
    images = draw_images(header["input"])
    got = outputs_of(net, images)
    for call in range(2, header.get("forward_calls", 1) + 1):
        again = outputs_of(net, images)
        got |= {f"{key}_call{call}": value for key, value in again.items()}
    return rows + output_rows(fixture, got)


def outputs_of(net: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The maps of the trunk, all attention weights and the logits of one pass."""
    with recorded_attention(net.backbone) as recorded:
        maps = net.backbone(images)
    found = {f"c{level}": each for level, each in enumerate(maps, start=1)}
    for name, uses in recorded.items():
        for use, weights in enumerate(uses):
            found[f"{ATTENTION}{name}.call{use}"] = weights.flatten(1, 2)
    if getattr(net, "auxiliary_head", None) is not None:
        found["aux_logits"] = net.auxiliary_head(maps)
    return {**found, "logits": net.decode_head(maps)[0]}


def is_network(fixture: Fixture) -> bool:
    config = fixture.header.peek().get("config")
    return isinstance(config, dict) and "backbone" in config and "manifest" in fixture.header


CHECKS = (
    Check(
        "segformer or hila network",
        is_network,
        check_network,
        {
            "config.**": "an option; the keys and numbers show its effect, if it has one",
            "arch": "what the network is called",
            "forward_calls": "how often the network was run",
        },
    ),
)
