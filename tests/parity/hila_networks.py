# SPDX-License-Identifier: Apache-2.0
"""Recorded SegFormer and HILA networks: maps, logits, attention weights and gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.backbones.mit import SIZES
from network.build import build_net
from network.convert import load_official
from network.ops.inter_level import recorded_attention
from tests.parity import recipe
from tests.parity.core import Fixture, Row, compare, failure, load_fixture
from tests.parity.hmsa_networks import L2_RTOL, draw_image

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


def stages_of(trunk: Mapping[str, Any]) -> list[int]:
    """The top stages counted from 1: recorded as pairs, or in Swin as layers counted from 0."""
    entries = trunk.get("hila_attn", DEFAULT_PAIRS)
    return [each[1] if isinstance(each, list) else each + 1 for each in entries]


def network_of(header: Mapping[str, Any]) -> nn.Module:
    """Our network with the options of a recorded one."""
    trunk = header["config"]["backbone"]
    kind = trunk["type"]
    options = {OPTIONS[k]: v for k, v in trunk.items() if k in OPTIONS}
    unknown = trunk.keys() - OPTIONS.keys() - WITHOUT_EFFECT - {"hila_attn"}
    assert not unknown, f"unknown options {sorted(unknown)}"
    if kind.endswith("_hila"):
        options["hila_stages"] = stages_of(trunk)
        options = {**HILA_DEFAULTS[kind], **options}
    return build_net(ARCHS[kind], header["num_classes"], **options)


def build(fixture: Fixture) -> tuple[nn.Module, int]:
    """The network in eval mode with the recorded weights, and the parameters it left out."""
    header = fixture.header
    net = network_of(header)
    state = recipe.fill(header["manifest"], header["gain"])
    report = load_official(net, {key: torch.from_numpy(value) for key, value in state.items()})
    parameters = (key for key in report.dropped if not key.endswith(BUFFERS))
    return net.eval(), sum(math.prod(header["manifest"][key][0]) for key in parameters)


def compare_output(fixture: Fixture, key: str, got: Tensor | None) -> list[Row]:
    """One recorded output: shape, strided values, norm."""
    name, spec = f"{fixture.name}/{key}", fixture.header["outputs"][key]
    if got is None:
        return [failure(name, "the network does not give it")]
    if list(got.shape) != spec["shape"]:
        return [failure(name, f"shape {tuple(got.shape)}, recorded {spec['shape']}")]
    step, tolerance = spec["stride"], fixture.header["tolerance"]
    atol = spec.get("atol", tolerance["atol"])
    part, want = got[..., ::step, ::step].numpy(), fixture.arrays[key]
    norm = float(np.linalg.norm(got.numpy().astype(np.float64)))
    return [
        compare(name, part, want, atol, tolerance["rtol"]),
        compare(f"{name} l2", norm / spec["l2"], 1.0, rtol=L2_RTOL),
    ]


@torch.inference_mode()
def check_network(fixture: Fixture) -> list[Row]:
    """Parameter count and every recorded output, also of a second call where there was one."""
    net, left_out = build(fixture)
    count = left_out + sum(item.numel() for item in net.parameters())
    rows = [compare(f"{fixture.name}/params", count, fixture.header["params"])]
    image = draw_image(fixture.header["input"])
    got = outputs_of(net, image)
    for call in range(2, fixture.header["forward_calls"] + 1):
        again = outputs_of(net, image)
        got |= {f"{key}_call{call}": value for key, value in again.items()}
    for key in fixture.header["outputs"]:
        rows += compare_output(fixture, key, got.get(key))
    return rows


def outputs_of(net: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """The maps of the trunk, all attention weights and the logits of one pass."""
    with recorded_attention(net.backbone) as recorded:
        maps = net.backbone(image)
    found = {f"c{level}": each for level, each in enumerate(maps, start=1)}
    for name, uses in recorded.items():
        for use, weights in enumerate(uses):
            found[f"{ATTENTION}{name}.call{use}"] = weights.flatten(1, 2)
    if getattr(net, "auxiliary_head", None) is not None:
        found["aux_logits"] = net.auxiliary_head(maps)
    return {**found, "logits": net.decode_head(maps)[0]}


def check_gradients(fixture: Fixture) -> list[Row]:
    """Loss and the norm of the gradient of every parameter; the file of the network is beside."""
    header, tolerance = fixture.header, fixture.header["tolerance"]
    network = load_fixture(fixture.folder / f"{header['arch']}.json")
    net, _ = build(network)
    logits = net(draw_image(header["input"]))["pred"]
    size = header["input"]["height"], header["input"]["width"]
    label = recipe.label(*size, network.header["num_classes"], header["label_seed"])
    target = torch.from_numpy(label)[None]
    loss = F.cross_entropy(logits, target, ignore_index=255, reduction="sum") / target.numel()
    loss.backward()
    loss_rtol = tolerance["loss_rtol"]
    rows = [compare(f"{fixture.name}/loss", loss.item(), header["loss"], rtol=loss_rtol)]
    reached = [(n, item.grad) for n, item in net.named_parameters() if item.grad is not None]
    got = {name: gradient.norm().item() for name, gradient in reached}
    atol, rtol = tolerance["grad_atol"], tolerance["grad_rtol"]
    for name, want in header["gradient_l2"].items():
        row = f"{fixture.name}/{name}"
        if name in got:
            rows.append(compare(row, got.pop(name), want, atol, rtol))
        else:
            rows.append(failure(row, "no such parameter"))
    return rows + [failure(f"{fixture.name}/{name}", "no recorded gradient") for name in got]


def check(fixture: Fixture) -> list[Row]:
    return (check_gradients if "gradient_l2" in fixture.header else check_network)(fixture)


CHECKS = {"segformer-*": check, "hila-*": check}
