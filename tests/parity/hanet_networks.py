# SPDX-License-Identifier: Apache-2.0
"""Recorded HANet networks and blocks, filled with official keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from network.build import build_net
from network.convert import load_official
from network.convert.hanet import official_name
from network.heads.hanet import HANet, HANetSettings, gated
from network.heads.hanet_places import attention_blocks
from network.inference import prepare_for_inference
from tests.parity import recipe
from tests.parity.core import Fixture, Row, compare, failure
from tests.parity.hmsa_networks import draw_image

OPTION_NAMES = {"pooling": "hanet_pooling", "dropout": "hanet_dropout"}  # ours, where other
MAP_ROWS = 1024  # height of the published position map
CITYSCAPES_WEIGHTS = (
    0.8373, 0.9180, 0.8660, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023,
    0.9539, 0.9843, 1.1116, 0.9037, 1.0865, 1.0955, 1.0865, 1.1529, 1.0507,
)  # fmt: skip
L2_RTOL = 1e-4
EVALUATION_SHARE = 4  # of the tolerance, for batch norms folded into the convolutions


def map_rows(start: int, stop: int) -> Tensor:
    """Positions of rows start..stop of the published map, (1, stop - start)."""
    return ((torch.arange(start, stop) + 0.5) / MAP_ROWS)[None]


def manifest_rows(fixture: Fixture, net: nn.Module) -> list[Row]:
    """Keys, shapes and types of the state dict are those recorded."""
    own = {
        official_name(key): [list(value.shape), str(value.dtype).removeprefix("torch.")]
        for key, value in net.state_dict().items()
    }
    want = fixture.header["manifest"]
    wrong = sorted(key for key in own.keys() | want.keys() if own.get(key) != want.get(key))
    if wrong:
        return [failure(f"{fixture.name}/manifest", f"{len(wrong)} differ, first {wrong[0]}")]
    return [compare(f"{fixture.name}/manifest", len(own), len(want))]


def recorded_state(fixture: Fixture, net: nn.Module) -> dict[str, Tensor]:
    """The recorded weights; fixed tables as the network built them."""
    state = recipe.fill(fixture.header["manifest"], fixture.header["gain"])
    own = {official_name(key): value for key, value in net.state_dict().items()}
    kept = {key: own[key].clone() for key in fixture.header["kept"]}
    return {**{key: torch.from_numpy(value) for key, value in state.items()}, **kept}


def compare_output(fixture: Fixture, key: str, got: Tensor, slack: float = 1.0) -> list[Row]:
    """Shape, strided values and norm of one recorded output."""
    spec, name = fixture.header["outputs"][key], f"{fixture.name}/{key}"
    if list(got.shape) != spec["shape"]:
        return [failure(name, f"shape {tuple(got.shape)}, recorded {spec['shape']}")]
    step, rtol = spec["stride"], fixture.header["tolerance"]["rtol"]
    strided = got[..., ::step, ::step].numpy()
    norm = float(got.double().norm())
    return [
        compare(name, strided, fixture.arrays[key], slack * spec["atol"], rtol),
        compare(f"{name} l2", norm / spec["l2"], 1.0, rtol=L2_RTOL),
    ]


def build(fixture: Fixture) -> nn.Module:
    """The network of a fixture in eval mode, by its published name, loaded from official keys."""
    header = fixture.header
    options = {OPTION_NAMES.get(key, key): value for key, value in header["config"].items()}
    net = build_net(f"network.deepv3.{header['arch']}", header["num_classes"], **options)
    state = recorded_state(fixture, net)
    report = load_official(net, {f"module.{key}": value for key, value in state.items()})
    assert report.layout == "hanet" and len(report.loaded) == len(state)
    return net.eval()


def run(net: nn.Module, image: Tensor, rows: Tensor | None) -> dict[str, Tensor]:
    """Every recorded kind of output of one pass."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, gate: found.update({name: gate})

    blocks = attention_blocks(net)
    hooks = [b.register_forward_hook(keep(f"attention{n[-1]}")) for n, b in blocks.items()]
    found["logits"] = net(image, rows)["pred"]
    for hook in hooks:
        hook.remove()
    found["low_level"], third, found["trunk"] = net.backbone(image)
    if net.dsn is not None:
        found["aux"] = net.dsn(third)
    return found


def losses(outputs: Mapping[str, Tensor], label: Tensor, weight: Tensor | None) -> dict[str, float]:
    """The recorded losses: cross entropy of the scores and of the auxiliary head, if any."""
    main = float(F.cross_entropy(outputs["logits"], label, weight, ignore_index=255))
    if "aux" not in outputs:
        return {"main": main, "total": main}
    aux = outputs["aux"]
    small = F.interpolate(label[None].float(), aux.shape[2:], mode="nearest")[0].long()
    side = float(F.cross_entropy(aux, small, weight, ignore_index=255))
    return {"main": main, "aux": side, "total": main + 0.4 * side}


def loss_rows(fixture: Fixture, outputs: Mapping[str, Tensor]) -> list[Row]:
    recorded, rtol = fixture.header["losses"], fixture.header["tolerance"]["rtol"]
    label = torch.from_numpy(recipe.label(**recorded["label"]))[None]
    rows = []
    for kind, weight in (("plain", None), ("class_weighted", torch.tensor(CITYSCAPES_WEIGHTS))):
        got = losses(outputs, label, weight)
        want = recorded[kind]
        rows += [compare(f"{fixture.name}/{kind} {k}", got[k], want[k], rtol=rtol) for k in want]
    return rows


@torch.inference_mode()
def check_network(fixture: Fixture) -> list[Row]:
    """Keys, parameters, every output at all recorded positions, and the losses."""
    net = build(fixture)
    image, header = draw_image(fixture.header["input"]), fixture.header
    count = sum(item.numel() for item in net.parameters())
    trained = sum(item.numel() for item in net.parameters() if item.requires_grad)
    rows = manifest_rows(fixture, net)
    rows.append(compare(f"{fixture.name}/params", count, header["params"]))
    rows.append(compare(f"{fixture.name}/trainable", trained, header["trainable"]))
    outputs = run(net, image, map_rows(*header["pos"]["logits"]))
    for key, span in header["pos"].items():
        if key.startswith("logits_") and key in header["outputs"]:
            positions = None if span is None else map_rows(*span)
            outputs[key] = net(image, positions)["pred"]
    for key in header["outputs"]:
        rows += compare_output(fixture, key, outputs[key])
    prepared = prepare_for_inference(net)(image, map_rows(*header["pos"]["logits"]))["pred"]
    rows += compare_output(fixture, "logits", prepared, EVALUATION_SHARE)
    return rows + loss_rows(fixture, outputs)


@torch.inference_mode()
def check_block(fixture: Fixture) -> list[Row]:
    """One block on drawn maps: its gate with and without positions, and the gated map."""
    header, c = fixture.header, fixture.header["config"]
    settings = HANetSettings(
        kernel=c["kernel_size"],
        reduction=c["r_factor"],
        layers=c["layer"],
        injection=c["pos_injection"],
        sinusoid=c["is_encoding"] == 1,
        row_steps=c["pos_rfactor"],
        max_pooling=c["pooling"] != "mean",
        dropout=c["dropout_prob"],
        noise=c["pos_noise"],
    )
    block = HANet(c["in_channel"], c["out_channel"], settings).eval()
    block.load_state_dict(recorded_state(fixture, block))
    x, out = (
        torch.from_numpy(recipe.tensor(spec["key"], spec["shape"], gain=spec["gain"]))
        for spec in (header["input"]["x"], header["input"]["out"])
    )
    span, height = header["pos"]["rows"], out.shape[2]
    positions = None
    if span is not None:
        down = map_rows(*span)
        positions = torch.cat([down, down.flip(1)])
    gate = block(x, height, positions)
    got = {
        "attention": gate,
        "out": gated(out, gate),
        "attention_nopos": block(x, height, None),
    }
    rows = manifest_rows(fixture, block)
    count = sum(item.numel() for item in block.parameters())
    rows.append(compare(f"{fixture.name}/params", count, header["params"]))
    for key in header["outputs"]:
        rows += compare_output(fixture, key, got[key])
    return rows


def check_by_kind(fixture: Fixture) -> list[Row]:
    """A network or a block of any name."""
    kind = fixture.header.get("kind")
    checks = {"network": check_network, "block": check_block}
    if kind not in checks:
        return [failure(fixture.name, f"no check knows the kind {kind}")]
    return checks[kind](fixture)


CHECKS = {"*": check_by_kind}
