# SPDX-License-Identifier: Apache-2.0
"""From an architecture name and options to a network.

    net = build_net("ocrnet.HRNet_Mscale", num_classes=19, n_scales=(0.5, 1.0, 2.0))

A new architecture file is listed in `ARCH_MODULES`; its `__all__` names the architectures, its
`USED_OPTIONS` says which options each of them reads.
"""

from __future__ import annotations

import dataclasses
import importlib
import types
from collections.abc import Callable
from typing import Any, cast

from torch import nn

from config import ModelConfig, UserError, cfg, check_scales, near
from network.convert import load_trunk

ARCH_MODULES = ("ocrnet", "basic", "deepv3", "deeper", "mscale", "mscale2", "attnscale", "hanet")

ArchFunction = Callable[[int, ModelConfig], nn.Module]


def _module(name: str) -> types.ModuleType:
    return importlib.import_module(f"network.{name}")


def list_archs() -> list[str]:
    """Every name `--arch` takes, sorted."""
    return sorted(f"{name}.{arch}" for name in ARCH_MODULES for arch in _module(name).__all__)


def resolve_arch(arch: str) -> str:
    """The canonical `module.Function`; UserError with the nearest name for anything else."""
    name = arch.removeprefix("network.")
    if "_HANet" in name:  # published in the module of the plain networks
        name = name.replace("deepv3.", "hanet.", 1)
    known = list_archs()
    if name not in known:
        hint = near(name, known)
        raise UserError(f"--arch {arch} is no architecture{hint}; --arch help lists all")
    return name


def _model_config(options: dict[str, Any]) -> ModelConfig:
    """Options (lists allowed for tuples) as a ModelConfig; UserError for unknown names."""
    known = {item.name for item in dataclasses.fields(ModelConfig)}
    for name in options:
        if name not in known:
            raise UserError(f"{name} is no option of a network{near(name, known)}")
    values: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    model = ModelConfig(**values)
    check_scales(model.n_scales)
    return model


def _refuse_useless(arch: str, model: ModelConfig, used: frozenset[str]) -> None:
    for item in dataclasses.fields(ModelConfig):
        if item.name not in used and getattr(model, item.name) != item.default:
            value = getattr(model, item.name)
            raise UserError(f"{item.name}={value} has no effect on {arch}; leave it out")


def build_net(arch: str, num_classes: int, **options: Any) -> nn.Module:
    """The network `arch`; `options` are the fields of `config.ModelConfig`.

    Raises UserError for an unknown arch or option, an option that the arch does not use, and a
    `pretrained` file that is missing or belongs to another trunk.
    """
    name = resolve_arch(arch)
    if num_classes < 1:
        raise UserError(f"num_classes {num_classes}: at least one class wanted")
    model = _model_config(options)
    module_name, function_name = name.split(".")
    module = _module(module_name)
    _refuse_useless(name, model, module.USED_OPTIONS[function_name])
    net = cast(ArchFunction, getattr(module, function_name))(num_classes, model)
    report = load_trunk(net, cfg.expand(model.pretrained)) if model.pretrained else None
    # For messages about this network: its name, and what became of the ImageNet file.
    vars(net).update(arch=name, num_classes=num_classes, trunk_report=report)
    return net
