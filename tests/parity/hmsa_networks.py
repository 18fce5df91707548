# SPDX-License-Identifier: Apache-2.0
"""Recorded HMSA networks: every output and the maps on the way to it, from official keys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from network.backbones.deeplab_trunks import make_trunk
from network.backbones.hrnet import HRNet
from network.build import build_net
from network.convert import load_official
from network.convert.nvidia import official_name
from network.inference import prepare_for_inference
from network.ops.resize import concat_resized, resize, scaled_size, size_of
from network.outputs import attn_key, pred_key
from tests.parity.core import Check, Row, compare, same
from tests.parity.fixture import CannotRun, Fixture, Record
from tests.parity.networks import (
    count_parameters,
    draw_images,
    manifest_rows,
    output_rows,
    params_rows,
    recorded_state,
    resolve,
    used_options,
)

KNOWN_OPTIONS = {
    *("n_scales", "mscale_lo_scale", "align_corners", "segattn_bot_ch", "aspp_bot_ch"),
    *("mscale_no3x3", "mscale_old_arch", "ocr_aspp", "hrnet_modules"),
}
NO_OPTIONS = {"bn"}  # entries of a recorded config that say how, not what
REPAIRED_BY = 9_984  # more parameters in `bot_fine` of the SE-ResNeXt networks than recorded
TRUNK = "trunk."


def recorded_config(header: Record, arch: str) -> dict[str, object]:
    """All options of the entry `config`; CannotRun for one that no network here has."""
    config = header["config"].plain() if "config" in header else {}
    unknown = sorted(config.keys() - KNOWN_OPTIONS - NO_OPTIONS - used_options(arch))
    if unknown:
        raise CannotRun(f"config: {', '.join(unknown)} is no known option of {arch}")
    return config


def options_of(fixture: Fixture, arch: str) -> dict[str, object]:
    """The recorded options that `arch` reads; the others have no effect there."""
    config, used = recorded_config(fixture.header, arch), used_options(arch)
    return {key: value for key, value in config.items() if key in used}


def build(fixture: Fixture) -> nn.Module:
    """The network of a fixture in eval mode, of random weights."""
    header = fixture.header
    arch = resolve(header["arch"])
    return build_net(arch, header["num_classes"], **options_of(fixture, arch)).eval()


def load_recorded(net: nn.Module, fixture: Fixture) -> None:
    """Fill `net` strictly with the weights of a fixture."""
    state = recorded_state(fixture)
    load_official(net, {f"module.{key}": value for key, value in state.items()})


def our_key(recorded: str) -> str:
    """`pred_2.0x` and `pred_20x` -> `pred_20x`."""
    kind, _, scale = recorded.partition("_")
    if "." not in scale:
        return recorded
    return {"pred": pred_key, "attn": attn_key}[kind](float(scale.removesuffix("x")))


def ocr_taps(net: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """The raw maps of a pass at scale 1 through an OCR network, wrapped or not."""
    single = net.one_scale
    branches = single.backbone(image)
    maps = single.maps(image)
    return {
        "backbone": concat_resized(branches, single.align_corners),
        "ocr_cls": maps.logits,
        "ocr_aux": maps.aux,
        "ocr_feats": maps.feats,
    }


def taps_of(arch: str) -> Callable[[nn.Module, Tensor], dict[str, Tensor]]:
    """How to see the inner maps of a family of networks."""
    family = arch.split(".")[0]
    if family == "ocrnet":
        return ocr_taps
    return weight_taps if family == "attnscale" else trunk_taps


@torch.inference_mode()
def check_network(fixture: Fixture) -> list[Row]:
    """Keys, parameter count, all outputs, and predictions of the form used for evaluation."""
    net = build(fixture)
    arch = resolve(fixture.header["arch"])
    rows = manifest_rows(fixture, net, lambda key: official_name(key, arch))
    rows += params_rows(fixture, count_parameters(net))
    if not rows[0].ok:
        return rows
    load_recorded(net, fixture)
    images = draw_images(fixture.header["input"])
    outputs = {**taps_of(arch)(net, images), **net(images, return_all=True)}
    rows += output_rows(fixture, outputs, our_key=our_key, sample=True)
    prepared = prepare_for_inference(net)(images, return_all=True)
    return rows + output_rows(fixture, prepared, our_key=our_key, only="pred", sample=True)


def trunk_taps(net: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """The trunk's last map of a pass at scale 1; with HRNet all branches joined."""
    single = net.one_scale
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


@torch.inference_mode()
def check_trunk(fixture: Fixture) -> list[Row]:
    """The three maps of a trunk by itself; its keys stand under `backbone.`."""
    name = str(fixture.header["arch"]).removeprefix(TRUNK)
    try:
        trunk = make_trunk(name)
    except Exception as error:
        raise CannotRun(f"arch: there is no trunk {name}") from error
    net = nn.ModuleDict({"backbone": trunk}).eval()
    rows = manifest_rows(fixture, net) + params_rows(fixture, count_parameters(net))
    if not rows[0].ok:
        return rows
    load_recorded(net, fixture)
    low, second, final = trunk(draw_images(fixture.header["input"]))
    return rows + output_rows(fixture, {"s2": low, "s4": second, "final": final}, sample=True)


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
            want.ignore(*want)
            continue
        bare, _, remark = arch.partition(" ")  # as in "ocrnet.HRNet_Mscale [65 classes]"
        bare = resolve(bare)
        with torch.device("meta"):
            net = build_net(bare, int(remark.strip("[]").split()[0]) if remark else 19)
        count = count_parameters(net)
        if "forward" in want:  # the reference built it but could not run it: our repair differs
            want.ignore("forward")
            count, net.bot_fine = count - REPAIRED_BY, torch.nn.Conv2d(48, 48, 1, bias=False)
        rows += [
            compare(f"archs/{arch} params", count, want["params"]),
            compare(f"archs/{arch} keys", len(net.state_dict()), want["keys"]),
            same(f"archs/{arch} digest", digest(net), want["sha256"]),
        ]
    return rows


def is_hmsa(fixture: Fixture) -> bool:
    """Whether it is a network called `module.Function`, or a trunk, with recorded outputs."""
    header = fixture.header.peek()
    arch = header.get("arch")
    return isinstance(arch, str) and "." in arch and "outputs" in header and "manifest" in header


def is_trunk(fixture: Fixture) -> bool:
    return is_hmsa(fixture) and str(fixture.header.peek()["arch"]).startswith(TRUNK)


REMARKS = {
    "config.**": "an option; the keys and numbers of the network show its effect, if it has one",
    "gain": "of the drawn weights; an output shows it",
}
CHECKS = (
    Check("hmsa trunk", is_trunk, check_trunk, {**REMARKS, "num_classes": "a trunk has none"}),
    Check("hmsa network", lambda f: is_hmsa(f) and not is_trunk(f), check_network, REMARKS),
    Check(
        "hmsa archs",
        lambda fixture: "archs" in fixture.header,
        check_archs,
        {"archs.*.error": "why the reference could not build it"},
    ),
)
