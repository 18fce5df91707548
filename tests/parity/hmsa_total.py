# SPDX-License-Identifier: Apache-2.0
"""The recorded training loss of whole HMSA networks: terms, and gradients of their weights."""

from __future__ import annotations

import math
import re

import numpy as np
import torch
from torch import Tensor, nn

from loss.objective import AuxRules, LossWeights, Objective
from loss.rmi import RMILoss
from network.build import build_net
from network.convert import load_official
from network.convert.nvidia import official_name
from network.outputs import AUX
from tests.parity import recipe
from tests.parity.core import Check, Row, compare, same
from tests.parity.fixture import CannotRun, Fixture, Record, first_case
from tests.parity.hmsa_networks import KNOWN_OPTIONS, recorded_config
from tests.parity.networks import draw_images, resolve, used_options

IGNORE = 255
LABEL_SEED = 50  # from the seed of an image to that of its label
LOW_SCALE = "mscale_lo_scale"


def options_of(header: Record, arch: str) -> dict[str, object]:
    """Options of the network, from the config or beside it; the low scale also from `mode`."""
    given = dict(recorded_config(header, arch))
    given |= {key: header[key] for key in KNOWN_OPTIONS if key in header}
    if "lo_scale" in header:
        given[LOW_SCALE] = header["lo_scale"]
    found = re.search(r"two-scale forward ([\d.]+\d)", str(header.get("mode", "")))
    if found and LOW_SCALE not in given:
        given[LOW_SCALE] = float(found[1])
    used = used_options(arch)
    return {key: value for key, value in given.items() if key in used}


def build(fixture: Fixture) -> nn.Module:
    """The network as recorded: training mode, running statistics, no dropout."""
    header = fixture.header
    arch = resolve(header["arch"])
    net = build_net(arch, header["num_classes"], **options_of(header, arch))
    manifest = {
        official_name(key, arch): (tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for key, value in net.state_dict().items()
    }
    state = recipe.fill(manifest, header["gain"])
    load_official(net, {key: torch.from_numpy(value) for key, value in state.items()})
    net.train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
        elif isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    return net


def draw_labels(fixture: Fixture) -> Tensor:
    """Labels (B, H, W), each of its own seed."""
    spec, classes = fixture.header["input"], fixture.header["num_classes"]
    first = spec.get("label_seed", spec["seed"] + LABEL_SEED)
    seeds = spec.get("label_seeds") or [first + i for i in range(spec.get("batch", 1))]
    size = spec["height"], spec["width"]
    return torch.from_numpy(np.stack([recipe.label(*size, classes, seed) for seed in seeds]))


def objective_of(case: Record, num_classes: int) -> Objective:
    return Objective(
        RMILoss(num_classes),
        num_classes=num_classes,
        ignore_label=IGNORE,
        weights=LossWeights(
            ocr_alpha=case.get("ocr_alpha", 0.4),
            supervised_mscale_wt=case.get("supervised_mscale_loss_wt", 0),
        ),
        aux=AuxRules(rmi=case.get("ocr_aux_loss_rmi", False)),
    )


def call_rows(
    name: str, case: Record, terms: dict[str, Tensor], has_aux: bool, rtol: float
) -> list[Row]:
    """The values of all criteria in the recorded order: aux, main, then scales from low to high."""
    scales = sorted(key for key in terms if key.startswith("scale_"))
    scales.sort(key=lambda key: float(key.removeprefix("scale_").removesuffix("x")))
    order = [*(["aux"] if has_aux else []), "main", *scales]
    structured = {"aux": bool(case.get("ocr_aux_loss_rmi", False)), "main": True}
    calls = case["criterion_calls_in_order"]
    rows = [same(f"{name} calls", len(order), len(calls))]
    for term, call in zip(order, calls, strict=False):
        rows.append(compare(f"{name} {term}", terms[term].item(), call["value"], rtol=rtol))
        if "do_rmi" in call:
            rows.append(same(f"{name} {term} rmi", structured.get(term, False), call["do_rmi"]))
    return rows


def case_rows(name: str, case: Record, net: nn.Module, arch: str, rtol: float) -> list[Row]:
    """Gradients after a backward pass."""
    named = {official_name(key, arch): item for key, item in net.named_parameters()}
    without = [key for key, item in named.items() if item.grad is None]
    squares = [p.grad.double().square().sum() for p in named.values() if p.grad is not None]
    total = math.sqrt(float(torch.stack(squares).sum()))
    rows = []
    if "grad_norm_total" in case:
        rows.append(compare(f"{name} grad norm", total, case["grad_norm_total"], rtol=rtol))
    if "params_without_grad" in case:
        want = sorted(case["params_without_grad"])
        rows.append(same(f"{name} without gradient", sorted(without), want))
    for key in case.get("grad_norms", {}):
        if key not in named:
            raise CannotRun(f"grad_norms: {key} is no parameter of {arch}")
        grad = named[key].grad
        norm = math.nan if grad is None else grad.double().norm().item()
        rows.append(compare(f"{name} {key}", norm, case["grad_norms"][key], rtol=rtol))
    return rows


def check_total(fixture: Fixture) -> list[Row]:
    """Value, terms and gradients of every case, all of one forward pass."""
    header, net = fixture.header, build(fixture)
    outputs, labels = net(draw_images(header["input"])), draw_labels(fixture)
    rtol, rows = header["tolerance"]["rtol"], []
    arch = resolve(header["arch"])
    for number, case in enumerate(fixture.cases):
        net.zero_grad()
        loss = objective_of(case, header["num_classes"])(outputs, labels)
        loss.total.backward(retain_graph=True)
        name = f"{fixture.name}/{number}"
        rows.append(compare(f"{name} loss", loss.total.item(), case["loss"], rtol=rtol))
        if "criterion_calls_in_order" in case:
            rows += call_rows(name, case, loss.terms, AUX in outputs, rtol)
        rows += case_rows(name, case, net, arch, rtol)
    return rows


CHECKS = (
    Check(
        "hmsa training loss",
        lambda fixture: (
            "criterion_calls_in_order" in first_case(fixture) or "grad_norms" in first_case(fixture)
        ),
        check_total,
        {
            "name": "what the recording is called",
            "mode": "says how the network was run; the low scale is read from it",
            "manifest": "the keys are those of the network",
            "input.images": "says how the images are drawn",
            "input.labels": "says how the labels are drawn",
            "cases.*.label": "what the case is called",
        },
    ),
)
