# SPDX-License-Identifier: Apache-2.0
"""Recorded UN-EPT networks: every map on the way from the image to the scores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from network.build import build_net
from network.convert import load_official
from network.heads.deformable import ContextBranch
from network.ops.resize import size_of
from network.outputs import DIRECTION, MASK, PRED
from tests.parity.core import Check, Row
from tests.parity.fixture import CannotRun, Fixture, Record
from tests.parity.networks import (
    count_parameters,
    draw_images,
    manifest_rows,
    output_rows,
    params_rows,
    recorded_state,
)

ARCHS = {"ResNetV1c": "unept.R50", "DeiT": "unept.DeiT", "res50": "unept.R50", "deit": "unept.DeiT"}
CELL = 8  # pixels of a side of one query


def as_size(pair: list[int]) -> tuple[int, int]:
    height, width = pair
    return height, width


def arch_of(config: Record) -> str:
    """Our network for a recorded configuration, by its trunk or its published name."""
    trunk = config.get("backbone_cfg", {}).get("type") if "backbone_cfg" in config else None
    kind = trunk or str(config.get("official_config", "")).split("_")[0]
    if kind not in ARCHS:
        raise CannotRun(f"config: {kind or 'no trunk'} is no known trunk of UN-EPT")
    return ARCHS[kind]


def grid_of(config: Record, size: Record) -> tuple[int, int]:
    """Rows and columns of queries, from the config or from the size of the image."""
    if "query_grid" in config:
        return as_size(config["query_grid"])
    grid = size["height"] // CELL, size["width"] // CELL
    if config.get("num_queries", grid[0] * grid[1]) != grid[0] * grid[1]:
        raise CannotRun(f"config.num_queries: {config['num_queries']} do not fill {grid}")
    return grid


def build(header: Record, **options: object) -> nn.Module:
    """The network of a fixture in eval mode, of random weights."""
    config = header["config"]
    grid = grid_of(config, header["input"])
    net = build_net(arch_of(config), header["num_classes"], query_grid=grid, **options)
    return net.eval()


@contextlib.contextmanager
def watched(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """The last output of every module, by its key here."""
    seen: dict[str, Tensor] = {}

    def keep(key: str):  # type: ignore[no-untyped-def]
        return lambda module, inputs, output: seen.__setitem__(key, output)

    handles = [module.register_forward_hook(keep(key)) for key, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def branch_modules(branch: ContextBranch) -> dict[str, nn.Module]:
    modules = {}
    for part, layers in (("encoder", branch.encoder.layers), ("decoder", branch.decoder.layers)):
        modules.update({f"{part}.{number}": layer for number, layer in enumerate(layers)})
    return modules


@torch.inference_mode()
def all_maps(net: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Every recorded output of a whole network by its recorded key."""
    parts = {"spatial": net.spatial_branch, "logits8": net.cls, "trunk": net.backbone}
    with watched({**parts, **branch_modules(net.context_branch)}) as seen:
        outputs = net(images, return_all=True)
    trunk = seen.pop("trunk")
    maps = {f"backbone.{number}": x for number, x in enumerate(trunk)}
    maps |= {"mask": outputs[MASK], "direction": outputs[DIRECTION], "seg_logits": outputs[PRED]}
    shapes = [size_of(x) for x in trunk]
    for key, value in seen.items():
        if key.startswith("encoder"):
            levels = value.split([height * width for height, width in shapes], dim=1)
            for number, (level, shape) in enumerate(zip(levels, shapes, strict=True)):
                maps[f"{key}.level{number}"] = level.transpose(1, 2).unflatten(2, shape)
        elif key.startswith("decoder"):
            maps[key] = value.transpose(1, 2).unflatten(2, size_of(seen["spatial"]))
        else:
            maps[key] = value
    return maps


def check_network(fixture: Fixture) -> list[Row]:
    """Keys, parameters and every recorded map."""
    net = build(fixture.header)
    rows = manifest_rows(fixture, net) + params_rows(fixture, count_parameters(net))
    if not rows[0].ok:
        return rows
    load_official(net, recorded_state(fixture))
    maps = all_maps(net, draw_images(fixture.header["input"]))
    return rows + output_rows(fixture, maps, sample=True)


def is_unept(fixture: Fixture) -> bool:
    """Whether a fixture has a configuration of UN-EPT."""
    config = fixture.header.peek().get("config")
    return isinstance(config, dict) and ("official_config" in config or "backbone_cfg" in config)


CHECKS = (
    Check(
        "unept network",
        lambda fixture: is_unept(fixture) and "manifest" in fixture.header,
        check_network,
        {
            "arch": "what the network is called; the config builds it",
            "config.**": "an option; the keys and numbers show its effect, if it has one",
            "input.seed": "the first of the seeds",
        },
    ),
)
