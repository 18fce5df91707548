# SPDX-License-Identifier: Apache-2.0
"""Recorded HANet networks, filled with official keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assembly.objective import CITYSCAPES_WEIGHTS
from network.build import build_net
from network.convert import load_official
from network.convert.hanet import official_name
from network.height_gates import attention_blocks
from network.inference import prepare_for_inference
from tests.parity import recipe
from tests.parity.core import Check, Row, compare
from tests.parity.fixture import CannotRun, Fixture, Record
from tests.parity.networks import (
    count_parameters,
    draw_images,
    manifest_rows,
    output_rows,
    params_rows,
    recorded_state,
    resolve,
)

OPTION_NAMES = {"pooling": "hanet_pooling", "dropout": "hanet_dropout"}  # ours, where other
MAP_ROWS = 1024  # height of the published position map
AUX_WEIGHT, IGNORE = 0.4, 255
EVALUATION_SLACK = 4  # times the tolerance, for batch norms folded into the convolutions
REMARKS = {
    "config.*": "an option; the keys and numbers show its effect, if it has one",
    "pos.rule": "in words",
    "pos.*": "rows of positions, of no effect on a network without blocks",
    "losses.note": "in words",
    "manifest_of": "names the fixture with the keys",
    "input.rule": "says how the image is drawn",
}


def map_rows(start: int, stop: int) -> Tensor:
    """Positions of rows start..stop of the published map, (1, stop - start)."""
    return ((torch.arange(start, stop) + 0.5) / MAP_ROWS)[None]


def positions_of(span: list[int] | None, batch: int) -> Tensor | None:
    """Positions for every image, none for a span of null."""
    return None if span is None else map_rows(*span).expand(batch, -1)


def filled_state(fixture: Fixture, net: nn.Module) -> dict[str, Tensor]:
    """The recorded weights; fixed tables as the network built them."""
    state, own = recorded_state(fixture), net.state_dict()
    named = {official_name(key): value for key, value in own.items()}
    for key in fixture.header.get("kept", []):
        if key not in named:
            raise CannotRun(f"kept: {key} is no entry of the network")
        state[key] = named[key].clone()
    return state


def build(header: Record) -> nn.Module:
    """The network of a fixture by its published name, in eval mode, of random weights."""
    arch = resolve(f"network.deepv3.{header['arch']}")
    config = header["config"].plain()
    options = {OPTION_NAMES.get(key, key): value for key, value in config.items()}
    return build_net(arch, header["num_classes"], **options).eval()


def run(net: nn.Module, images: Tensor, rows: Tensor | None) -> dict[str, Tensor]:
    """Every recorded kind of output of one pass."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, gate: found.update({name: gate})

    blocks = attention_blocks(net)
    hooks = [b.register_forward_hook(keep(f"attention{n[-1]}")) for n, b in blocks.items()]
    found["logits"] = net(images, rows)["pred"]
    for hook in hooks:
        hook.remove()
    found["low_level"], third, found["trunk"] = net.backbone(images)
    if net.dsn is not None:
        found["aux"] = net.dsn(third)
    return found


def losses(outputs: Mapping[str, Tensor], label: Tensor, weight: Tensor | None) -> dict[str, float]:
    """The recorded losses: cross entropy of the scores and of the auxiliary head, if any."""
    main = float(F.cross_entropy(outputs["logits"], label, weight, ignore_index=IGNORE))
    if "aux" not in outputs:
        return {"main": main, "total": main}
    aux = outputs["aux"]
    small = F.interpolate(label[:, None].float(), aux.shape[2:], mode="nearest")[:, 0].long()
    side = float(F.cross_entropy(aux, small, weight, ignore_index=IGNORE))
    return {"main": main, "aux": side, "total": main + AUX_WEIGHT * side}


def loss_rows(fixture: Fixture, outputs: Mapping[str, Tensor]) -> list[Row]:
    """The recorded losses, where there are any."""
    recorded, rtol = fixture.header.get("losses"), fixture.header["tolerance"]["rtol"]
    if recorded is None:
        return []
    spec = recorded["label"].plain()
    drawn = [
        recipe.label(**{**spec, "seed": spec["seed"] + i}) for i in range(len(outputs["logits"]))
    ]
    label = torch.stack([torch.from_numpy(each) for each in drawn])
    rows = []
    for kind, weight in (("plain", None), ("class_weighted", torch.tensor(CITYSCAPES_WEIGHTS))):
        if kind not in recorded:
            continue
        got = losses(outputs, label, weight)
        rows += [
            compare(f"{fixture.name}/{kind} {k}", got[k], recorded[kind][k], rtol=rtol)
            for k in recorded[kind]
            if k in got
        ]
    return rows


@torch.inference_mode()
def check_network(fixture: Fixture) -> list[Row]:
    """Keys, parameters, every output at all recorded positions, and the losses."""
    header, net = fixture.header, build(fixture.header)
    rows = manifest_rows(fixture, net, official_name) + params_rows(fixture, count_parameters(net))
    if "trainable" in header:
        trained = sum(item.numel() for item in net.parameters() if item.requires_grad)
        rows.append(compare(f"{fixture.name}/trainable", trained, header["trainable"]))
    if not rows[0].ok:
        return rows
    state = filled_state(fixture, net)
    load_official(net, {f"module.{key}": value for key, value in state.items()})
    images = draw_images(header["input"])
    spans = header.get("pos", {})
    first = positions_of(spans.get("logits", [0, MAP_ROWS]), len(images))
    outputs = run(net, images, first)
    for key in spans:
        if key.startswith("logits_") and key in header["outputs"]:
            outputs[key] = net(images, positions_of(spans[key], len(images)))["pred"]
    rows += output_rows(fixture, outputs, sample=True)
    prepared = {"logits": prepare_for_inference(net)(images, first)["pred"]}
    rows += output_rows(fixture, prepared, slack=EVALUATION_SLACK, sample=True)
    return rows + loss_rows(fixture, outputs)


CHECKS = (
    Check(
        "hanet network",
        lambda fixture: fixture.header.get("kind") == "network",
        check_network,
        REMARKS,
    ),
)
