# SPDX-License-Identifier: Apache-2.0
"""Recorded HRViT networks: maps, scores, losses, gradients, and the rates of drop-path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.backbones.hrvit import HRViTBody
from network.build import build_net
from network.convert import load_official
from network.inference import prepare_for_inference
from network.ops.drop_path import DropPath
from network.ops.resize import resize
from network.outputs import PRED
from tests.parity import recipe
from tests.parity.core import Fixture, Row, compare, failure
from tests.parity.hmsa_networks import compare_outputs, draw_image

HEADS = {"segformer": "SegFormer", "upernet": "UPerNet"}
AUX_WEIGHT, IGNORE = 0.4, 255
LOSS_ATOL, GRADIENT_RTOL, TRACE_ATOL = 1e-5, 1e-3, 1e-5


def build(fixture: Fixture) -> nn.Module:
    """The network of a fixture in eval mode, loaded strictly with the recorded weights."""
    header = fixture.header
    config = header["config"]
    form = "224" if config["kind"] == "classifier" else HEADS[config["head"]]
    net = build_net(f"hrvit.{config['variant']}_{form}", header["num_classes"])
    state = recipe.fill(header["manifest"], header["gain"])
    load_official(net, {key: torch.from_numpy(value) for key, value in state.items()})
    return net.eval()


def body_of(net: nn.Module) -> HRViTBody:
    return net if isinstance(net, HRViTBody) else net.backbone


def run(net: nn.Module, image: Tensor, trace: dict[str, Tensor]) -> dict[str, Tensor]:
    """Everything that fixtures record, by its recorded name; `trace` gets every entry's maps."""
    body = body_of(net)
    hooks = [
        entry.register_forward_hook(
            lambda _module, _inputs, maps, index=index: trace.update(
                {f"features.{index}[{branch}]": x for branch, x in enumerate(maps)}
            )
        )
        for index, entry in enumerate(body.features)
    ]
    maps = body.encode(image)
    for hook in hooks:
        hook.remove()
    outputs = {"stem": body.stem(image), **{f"feature{i}": x for i, x in enumerate(maps)}}
    if body is net:
        return outputs | {"logits": net.head(maps)}
    outputs["decode_logits"] = net.decode_head(maps)[0]
    outputs["full_logits"] = resize(outputs["decode_logits"], image.shape[-2:])
    if net.auxiliary_head is not None:
        outputs["aux_logits"] = net.auxiliary_head(maps)
    return outputs


def mean_over_all(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy as recorded: ignored pixels count as zero, not as absent."""
    scores = resize(logits, label.shape[-2:])
    return F.cross_entropy(scores, label, ignore_index=IGNORE, reduction="none").mean()


def losses(fixture: Fixture, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The terms of the recorded loss, by recorded name."""
    spec, size = fixture.header["loss"], fixture.header["input"]
    if "logits" in outputs:
        return {"total": F.cross_entropy(outputs["logits"], torch.tensor([spec["target"]]))}
    classes = fixture.header["num_classes"]
    drawn = recipe.label(size["height"], size["width"], classes, spec["label_seed"])
    label = torch.from_numpy(drawn)[None]
    terms = {"decode.loss_seg": mean_over_all(outputs["decode_logits"], label)}
    if "aux_logits" in outputs:
        terms["aux.loss_seg"] = AUX_WEIGHT * mean_over_all(outputs["aux_logits"], label)
    return terms | {"total": sum(terms.values())}


def compare_losses(fixture: Fixture, net: nn.Module, outputs: Mapping[str, Tensor]) -> list[Row]:
    """Loss values, and the norms of the gradients of a few weights."""
    spec = fixture.header["loss"]
    recorded = {**spec.get("values", {}), "total": spec["total"]}
    terms = losses(fixture, outputs)
    rows = [
        compare(f"{fixture.name}/{name}", value.item(), recorded[name], LOSS_ATOL)
        for name, value in terms.items()
    ]
    terms["total"].backward()
    weights = dict(net.named_parameters())
    for name, norm in fixture.header["grad_l2"].items():
        gradient = weights[name].grad
        row = compare(f"{fixture.name}/grad {name}", gradient.norm().item(), norm, 0, GRADIENT_RTOL)
        rows.append(row)
    return rows


def compare_trace(fixture: Fixture, trace: Mapping[str, Tensor]) -> list[Row]:
    """Shape, mean and deviation of every map between fusions and stages, first to last."""
    rows = []
    for name, want in fixture.header["trace"].items():
        got, title = trace[name].detach(), f"{fixture.name}/{name}"
        if list(got.shape) != want["shape"]:
            rows.append(failure(title, f"shape {tuple(got.shape)}, recorded {want['shape']}"))
            continue
        numbers = [got.mean().item(), got.std(correction=0).item()]
        rows.append(compare(title, numbers, [want["mean"], want["std"]], TRACE_ATOL))
    return rows


def check_network(fixture: Fixture) -> list[Row]:
    """Parameters, every recorded map and number, and the form used for evaluation."""
    net, trace = build(fixture), {}
    image = draw_image(fixture.header["input"])
    count = sum(item.numel() for item in net.parameters())
    rows = [compare(f"{fixture.name}/params", count, fixture.header["params"])]
    outputs = run(net, image, trace)
    rows += compare_trace(fixture, trace)
    values = {name: x.detach() for name, x in outputs.items()}
    rows += compare_outputs(fixture, values)
    rows += compare_losses(fixture, net, outputs)
    final = "logits" if "logits" in outputs else "full_logits"
    with torch.inference_mode():
        prepared = prepare_for_inference(net)(image)
    return rows + compare_outputs(fixture, {final: prepared[PRED]}, only=final)


def check_drop_path(fixture: Fixture) -> list[Row]:
    """The rate of every block of the three sizes."""
    rows: list[Row] = []
    variants: Mapping[str, Any] = fixture.header["variants"]
    for name, want in variants.items():
        with torch.device("meta"):
            options = {"drop_path": want["drop_path_rate"]}
            net = build_net(f"hrvit.{name.removeprefix('hrvit_')}_SegFormer", 19, **options)
        got = {
            key.removesuffix(".drop_path"): module.rate
            for key, module in net.backbone.named_modules()
            if isinstance(module, DropPath)
        }
        if set(got) != set(want["probability"]):
            rows.append(failure(f"drop_path/{name}", "other blocks than recorded"))
            continue
        rows += [
            compare(f"drop_path/{name} {key}", got[key], rate, atol=5e-7)
            for key, rate in want["probability"].items()
        ]
    return rows


CHECKS = {
    "HRViT_*": check_network,
    "segformer_hrvit_*": check_network,
    "upernet_hrvit_*": check_network,
    "drop_path": check_drop_path,
}
