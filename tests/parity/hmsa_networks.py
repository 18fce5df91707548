# SPDX-License-Identifier: Apache-2.0
"""Recorded HMSA networks: every output and the maps on the way to it, from official keys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from network.backbones.hrnet import HRNet
from network.backbones.trunks import make_trunk
from network.build import build_net, list_archs
from network.convert import load_official
from network.convert.nvidia import official_name
from network.inference import prepare_for_inference
from network.ops.resize import concat_resized, resize, scaled_size, size_of
from network.outputs import attn_key, pred_key
from tests.parity import recipe
from tests.parity.core import Fixture, Row, compare, failure

NO_OPTIONS = {"bn"}  # entries of a recorded config that say how, not what
REPAIRED_BY = 9_984  # more parameters in `bot_fine` of the SE-ResNeXt networks than recorded
L2_RTOL = 1e-4  # of the norm over a whole output; the stored arrays are strided


def build(fixture: Fixture) -> nn.Module:
    """The network of a fixture in eval mode, loaded strictly with the recorded weights."""
    header = fixture.header
    options = {k: v for k, v in header["config"].items() if k not in NO_OPTIONS}
    net = build_net(header["arch"], header["num_classes"], **options)
    load_recorded(net, fixture)
    return net.eval()


def load_recorded(net: nn.Module, fixture: Fixture) -> None:
    """Fill `net` strictly with the weights of a fixture."""
    state = recipe.fill(fixture.header["manifest"], fixture.header["gain"])
    load_official(net, {f"module.{key}": torch.from_numpy(value) for key, value in state.items()})


def draw_image(spec: Mapping[str, Any]) -> Tensor:
    """The input of a fixture: (1, 3, H, W)."""
    return torch.from_numpy(recipe.image(spec["height"], spec["width"], spec["seed"]))[None]


def our_key(recorded: str) -> str:
    """`pred_2.0x` and `pred_20x` -> `pred_20x`."""
    kind, _, scale = recorded.partition("_")
    if "." not in scale:
        return recorded
    return {"pred": pred_key, "attn": attn_key}[kind](float(scale.removesuffix("x")))


def ocr_taps(net: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """The raw maps of a pass at scale 1 through an OCR network, wrapped or not."""
    single = getattr(net, "net", net)
    branches = single.backbone(image)
    maps = single.maps(image)
    return {
        "backbone": concat_resized(branches, single.align_corners),
        "ocr_cls": maps.logits,
        "ocr_aux": maps.aux,
        "ocr_feats": maps.feats,
    }


def compare_outputs(fixture: Fixture, outputs: Mapping[str, Tensor], only: str = "") -> list[Row]:
    """Every recorded output whose name begins with `only`: shape, strided values, norm."""
    tolerance = fixture.header["tolerance"]
    rows = []
    for key, spec in fixture.header["outputs"].items():
        name = f"{fixture.name}/{key}"
        if not key.startswith(only):
            continue
        if our_key(key) not in outputs:
            rows.append(failure(name, "the network does not return it"))
            continue
        got = outputs[our_key(key)].numpy()
        if list(got.shape) != spec["shape"]:
            rows.append(failure(name, f"shape {got.shape}, recorded {spec['shape']}"))
            continue
        step = spec["stride"]
        atol = spec.get("atol", tolerance["atol"])
        want = fixture.arrays[key]
        rows.append(compare(name, got[..., ::step, ::step], want, atol, tolerance["rtol"]))
        norm = float(np.linalg.norm(got.astype(np.float64)))
        rows.append(compare(f"{name} l2", norm / spec["l2"], 1.0, rtol=L2_RTOL))
    return rows


@torch.inference_mode()
def check_network(
    fixture: Fixture, taps: Callable[[nn.Module, Tensor], dict[str, Tensor]]
) -> list[Row]:
    """Parameter count, all outputs, and the predictions of the form used for evaluation."""
    net = build(fixture)
    image = draw_image(fixture.header["input"])
    count = sum(item.numel() for item in net.parameters())
    rows = [compare(f"{fixture.name}/params", count, fixture.header["params"])]
    rows += compare_outputs(fixture, {**taps(net, image), **net(image, return_all=True)})
    prepared = prepare_for_inference(net)
    return rows + compare_outputs(fixture, prepared(image, return_all=True), only="pred")


def trunk_taps(net: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """The trunk's last map of a pass at scale 1; with HRNet all branches joined."""
    single = getattr(net, "net", net)
    maps = single.backbone(image)
    if isinstance(single.backbone, HRNet):
        return {"backbone": concat_resized(maps, single.align_corners)}
    return {"backbone": maps[-1]}


def weight_taps(net: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """As `trunk_taps`, and the weight of the highest scale before any resize."""
    feats = [
        net.net.maps(resize(image, scaled_size(size_of(image), scale))).feats
        for scale in net.scales
    ]
    return {**trunk_taps(net, image), "attn": net.weights(feats)[-1]}


def check_deeplab(fixture: Fixture) -> list[Row]:
    return check_network(fixture, trunk_taps)


def check_attnscale(fixture: Fixture) -> list[Row]:
    return check_network(fixture, weight_taps)


@torch.inference_mode()
def check_trunk(fixture: Fixture) -> list[Row]:
    """The three maps of a trunk by itself; its keys stand under `backbone.`."""
    trunk = make_trunk(fixture.name.removeprefix("trunk."))
    net = nn.ModuleDict({"backbone": trunk}).eval()
    load_recorded(net, fixture)
    low, second, final = trunk(draw_image(fixture.header["input"]))
    count = sum(item.numel() for item in net.parameters())
    rows = [compare(f"{fixture.name}/params", count, fixture.header["params"])]
    return rows + compare_outputs(fixture, {"s2": low, "s4": second, "final": final})


def check_ocrnet(fixture: Fixture) -> list[Row]:
    return check_network(fixture, ocr_taps)


def digest(net: nn.Module) -> str:
    """sha256 over the official keys and shapes, formed as `archs.json` says."""
    arch = net.arch
    shapes = {official_name(key, arch): value.shape for key, value in net.state_dict().items()}
    lines = (f"{key} {'x'.join(map(str, shape))}" for key, shape in sorted(shapes.items()))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def check_archs(fixture: Fixture) -> list[Row]:
    """Parameters, number of entries and digest of every recorded architecture."""
    rows = []
    for arch, want in fixture.header["archs"].items():
        if "params" not in want:  # the reference could not build it
            continue
        bare, _, remark = arch.partition(" ")  # as in "ocrnet.HRNet_Mscale [65 classes]"
        if bare not in list_archs():
            rows.append(failure(f"archs/{arch}", "no such architecture"))
            continue
        with torch.device("meta"):
            net = build_net(bare, int(remark.strip("[]").split()[0]) if remark else 19)
        count = sum(item.numel() for item in net.parameters())
        if "forward" in want:  # the reference built it but could not run it: our repair differs
            count, net.bot_fine = count - REPAIRED_BY, torch.nn.Conv2d(48, 48, 1, bias=False)
        rows.append(compare(f"archs/{arch} params", count, want["params"]))
        rows.append(compare(f"archs/{arch} keys", len(net.state_dict()), want["keys"]))
        if digest(net) != want["sha256"]:
            rows.append(failure(f"archs/{arch}", "other keys or shapes than recorded"))
    return rows


CHECKS = {
    "ocrnet.*": check_ocrnet,
    "archs": check_archs,
    "trunk.*": check_trunk,
    "attnscale.*": check_attnscale,
    **{f"{name}.*": check_deeplab for name in ("basic", "deepv3", "deeper", "mscale", "mscale2")},
}
