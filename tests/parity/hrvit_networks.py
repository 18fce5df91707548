# SPDX-License-Identifier: Apache-2.0
"""Recorded HRViT networks: maps, scores, losses, gradients, and the rates of drop-path."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loss.objective import pixel_accuracy
from network.backbones.hrvit import HRViTBody
from network.build import build_net
from network.convert import load_official
from network.inference import prepare_for_inference
from network.ops.drop_path import DropPath
from network.ops.resize import resize
from network.outputs import PRED
from tests.parity import recipe
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
)

HEADS = {"segformer": "SegFormer", "upernet": "UPerNet"}
AUX_WEIGHT, IGNORE = 0.4, 255
LOSS_ATOL, LOSS_RTOL, GRADIENT_RTOL = 1e-5, 1e-6, 1e-3
TRACE_ATOL, TRACE_RTOL = 1.5e-5, 5e-6  # recorded to six digits
RATE_ATOL = 1e-6  # likewise


def build(header: Record) -> nn.Module:
    """The network of a fixture in eval mode, of random weights."""
    config = header["config"].plain()
    classifier = config["kind"] == "classifier"
    if not classifier and config.get("head") not in HEADS:
        raise CannotRun(f"config.head: {config.get('head')} is no known head")
    form = "224" if classifier else HEADS[config["head"]]
    return build_net(resolve(f"hrvit.{config['variant']}_{form}"), header["num_classes"]).eval()


def run(net: nn.Module, images: Tensor, trace: dict[str, Tensor]) -> dict[str, Tensor]:
    """Everything that fixtures record, by its recorded name; `trace` gets every entry's maps."""
    body = net if isinstance(net, HRViTBody) else net.backbone
    hooks = [
        entry.register_forward_hook(
            lambda _module, _inputs, maps, index=index: trace.update(
                {f"features.{index}[{branch}]": x for branch, x in enumerate(maps)}
            )
        )
        for index, entry in enumerate(body.features)
    ]
    maps = body.encode(images)
    for hook in hooks:
        hook.remove()
    outputs = {"stem": body.stem(images), **{f"feature{i}": x for i, x in enumerate(maps)}}
    if body is net:
        return outputs | {"logits": net.head(maps)}
    outputs["decode_logits"] = net.decode_head(maps)[0]
    outputs["full_logits"] = resize(outputs["decode_logits"], images.shape[-2:])
    if net.auxiliary_head is not None:
        outputs["aux_logits"] = net.auxiliary_head(maps)
    return outputs


def head_terms(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy as recorded, in which ignored pixels count as zero, and accuracy."""
    scores = resize(logits, labels.shape[-2:])
    values = F.cross_entropy(scores, labels, ignore_index=IGNORE, reduction="none")
    return values.mean(), pixel_accuracy(scores, labels)


def losses(fixture: Fixture, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The terms of the recorded loss, by recorded name."""
    spec, size = fixture.header["loss"], fixture.header["input"]
    if "logits" in outputs:
        target = torch.tensor([spec["target"]]).expand(len(outputs["logits"]))
        return {"total": F.cross_entropy(outputs["logits"], target)}
    shape, classes = (size["height"], size["width"]), fixture.header["num_classes"]
    drawn = [
        recipe.label(*shape, classes, spec["label_seed"] + i)
        for i in range(len(outputs["decode_logits"]))
    ]
    labels = torch.from_numpy(np.stack(drawn))
    terms = dict(
        zip(
            ("decode.loss_seg", "decode.acc_seg"),
            head_terms(outputs["decode_logits"], labels),
            strict=True,
        )
    )
    total = terms["decode.loss_seg"]
    if "aux_logits" in outputs:
        side, terms["aux.acc_seg"] = head_terms(outputs["aux_logits"], labels)
        terms["aux.loss_seg"] = aux_weight(fixture) * side
        total = total + terms["aux.loss_seg"]
    return terms | {"total": total}


def aux_weight(fixture: Fixture) -> float:
    """The weight of the auxiliary head."""
    aux = fixture.header["config"].plain().get("aux") or {}
    return float(aux.get("loss_weight", AUX_WEIGHT))


def loss_rows(fixture: Fixture, net: nn.Module, outputs: Mapping[str, Tensor]) -> list[Row]:
    """Loss values, and the norms of the gradients of a few weights, where they were recorded."""
    header, name = fixture.header, fixture.name
    if "loss" not in header:
        return []
    spec, terms = header["loss"], losses(fixture, outputs)
    rows = [compare(f"{name}/total", terms["total"].item(), spec["total"], LOSS_ATOL, LOSS_RTOL)]
    recorded = spec.get("values", {})
    rows += [
        compare(f"{name}/{key}", terms[key].item(), recorded[key], LOSS_ATOL, LOSS_RTOL)
        for key in recorded
        if key in terms
    ]
    if "grad_l2" not in header:
        return rows
    terms["total"].backward()
    weights = dict(net.named_parameters())
    for key in header["grad_l2"]:
        if key not in weights or weights[key].grad is None:
            raise CannotRun(f"grad_l2: {key} is no parameter with a gradient")
        norm = weights[key].grad.norm().item()
        rows.append(compare(f"{name}/grad {key}", norm, header["grad_l2"][key], 0, GRADIENT_RTOL))
    return rows


def trace_rows(fixture: Fixture, trace: Mapping[str, Tensor]) -> list[Row]:
    """Shape, mean and deviation of every map between fusions and stages, first to last."""
    rows = []
    for key, want in fixture.header.get("trace", {}).items():
        if key not in trace:
            raise CannotRun(f"trace: {key} is no map of the network")
        got, title = trace[key].detach(), f"{fixture.name}/{key}"
        rows.append(same(f"{title} shape", list(got.shape), want["shape"]))
        numbers = [got.mean().item(), got.std(correction=0).item()]
        rows.append(compare(title, numbers, [want["mean"], want["std"]], TRACE_ATOL, TRACE_RTOL))
    return rows


def check_network(fixture: Fixture) -> list[Row]:
    """Keys, parameters, every recorded map and number, and the form used for evaluation."""
    net, trace = build(fixture.header), dict[str, Tensor]()
    rows = manifest_rows(fixture, net) + params_rows(fixture, count_parameters(net))
    if not rows[0].ok:
        return rows
    load_official(net, recorded_state(fixture))
    images = draw_images(fixture.header["input"])
    outputs = run(net, images, trace)
    rows += trace_rows(fixture, trace)
    rows += output_rows(fixture, outputs)
    rows += loss_rows(fixture, net, outputs)
    final = "logits" if "logits" in outputs else "full_logits"
    with torch.inference_mode():
        prepared = prepare_for_inference(net)(images)
    return rows + output_rows(fixture, {final: prepared[PRED]}, only=final)


def check_drop_path(fixture: Fixture) -> list[Row]:
    """The rate of every block of every recorded size."""
    rows: list[Row] = []
    for key, want in fixture.header["variants"].items():
        arch = resolve(f"hrvit.{key.removeprefix('hrvit_')}_SegFormer")
        with torch.device("meta"):
            net = build_net(arch, 19, drop_path=want["drop_path_rate"])
        got = {
            name.removesuffix(".drop_path"): module.rate
            for name, module in net.backbone.named_modules()
            if isinstance(module, DropPath)
        }
        recorded = want["probability"].plain()
        rows.append(same(f"{fixture.name}/{key} blocks", sorted(got), sorted(recorded)))
        rows += [
            compare(f"{fixture.name}/{key} {name}", got[name], rate, atol=RATE_ATOL)
            for name, rate in recorded.items()
            if name in got
        ]
    return rows


def is_network(fixture: Fixture) -> bool:
    config = fixture.header.peek().get("config")
    return isinstance(config, dict) and "variant" in config and "kind" in config


CHECKS = (
    Check(
        "hrvit network",
        is_network,
        check_network,
        {
            "arch": "what the network is called; the config builds it",
            "config.**": "an option; the keys and numbers show its effect, if it has one",
            "any_size": "whether the published program refuses the size",
        },
    ),
    Check("hrvit drop path", lambda fixture: "variants" in fixture.header, check_drop_path),
)
