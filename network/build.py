# SPDX-License-Identifier: Apache-2.0
"""From an architecture name and options to a network.

    net = build_net("ocrnet.HRNet_Mscale", num_classes=19, n_scales=(0.5, 1.0, 2.0))

A new architecture file is listed in `ARCH_MODULES`; its `__all__` names the architectures, its
`USED_OPTIONS` says which options each of them reads, and `CLASSIFIERS`, if it has any, which of
them classify whole images.

Every listed network of one scale also has a multi-scale form, its name with `_Mscale` behind it:
`hrvit.b1_SegFormer_Mscale`. Where the published program has such a name, that one is meant.
"""

from __future__ import annotations

import dataclasses
import importlib
import types
from collections.abc import Callable
from typing import Any, cast

from torch import nn

from network.convert import load_trunk
from network.heads.boundary import BoundaryHeads
from network.multiscale import MSCALE_OPTIONS, hierarchical
from network.outputs import SingleScale, add_boundary
from runtime.errors import UserError, near
from settings.model import ModelConfig, check_scales

ARCH_MODULES = (
    "ocrnet",
    "basic",
    "deepv3",
    "deeper",
    "mscale",
    "mscale2",
    "attnscale",
    "hrvit",
    "hanet",
    "unept",
    "segformer",
    "hila",
    "swin",
)

MSCALE_SUFFIX = "_Mscale"

ArchFunction = Callable[[int, ModelConfig], nn.Module]


def _module(name: str) -> types.ModuleType:
    return importlib.import_module(f"network.{name}")


def list_archs() -> list[str]:
    """Every name `--arch` takes, sorted."""
    return sorted(f"{name}.{arch}" for name in ARCH_MODULES for arch in _module(name).__all__)


def list_classifiers() -> list[str]:
    """The names among them whose `pred` is (B, K), one class an image; for `--task classify`.

    An arch module lists them in a set `CLASSIFIERS`.
    """
    return sorted(
        f"{name}.{arch}"
        for name in ARCH_MODULES
        for arch in getattr(_module(name), "CLASSIFIERS", frozenset())
    )


def resolve_arch(arch: str) -> str:
    """The canonical `module.Function`; UserError with the nearest name for anything else."""
    name = arch.removeprefix("network.")
    if "_HANet" in name:  # published in the module of the plain networks
        name = name.replace("deepv3.", "hanet.", 1)
    known = list_archs()
    if name not in known and _base_of(name, known) is None:
        hint = near(name, known)
        raise UserError(f"--arch {arch} is no architecture{hint}; --arch help lists all")
    return name


def _base_of(name: str, known: list[str]) -> str | None:
    """The listed one-scale network that `name` is the multi-scale form of, if it is one."""
    base = name.removesuffix(MSCALE_SUFFIX)
    if base == name or base not in known or base in list_classifiers():
        return None
    return None if "n_scales" in _used_options(base) else base


def _used_options(name: str) -> frozenset[str]:
    module, function = name.split(".")
    used: frozenset[str] = _module(module).USED_OPTIONS[function]
    return used


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


def _add_boundary_heads(net: nn.Module, name: str) -> None:
    """Give `net`, or the network inside its multi-scale wrapper, boundary heads."""
    core = net if isinstance(net, SingleScale) else getattr(net, "net", None)
    if not isinstance(core, nn.Module) or not isinstance(core, SingleScale):
        raise UserError(
            f"{name} offers no features to boundary heads: boundary_heads (--dt_offset_wt) has no "
            "effect on it"
        )
    if not getattr(core, "own_boundary", False):
        add_boundary(core, BoundaryHeads(core.feature_channels))
        vars(core).update(features_read=True)


def _build(name: str, num_classes: int, model: ModelConfig) -> nn.Module:
    module_name, function_name = name.split(".")
    return cast(ArchFunction, getattr(_module(module_name), function_name))(num_classes, model)


def _with_scales(net: nn.Module, name: str, model: ModelConfig) -> nn.Module:
    """`net` under the multi-scale attention, as `name` wants."""
    if not isinstance(net, SingleScale):
        raise UserError(f"--arch {name}: this network cannot be run at several scales")
    return hierarchical(net, model)


def build_net(arch: str, num_classes: int, **options: Any) -> nn.Module:
    """The network `arch`; `options` are the fields of `config.ModelConfig`.

    Raises UserError for an unknown arch or option, an option that the arch does not use, and a
    `pretrained` file that is missing or belongs to another trunk.
    """
    name = resolve_arch(arch)
    if num_classes < 1:
        raise UserError(f"num_classes {num_classes}: at least one class wanted")
    model = _model_config(options)
    base = None if name in list_archs() else _base_of(name, list_archs())
    used = _used_options(base or name) | {"boundary_heads"}
    _refuse_useless(name, model, used | MSCALE_OPTIONS if base else used)
    net = _build(base or name, num_classes, model)
    if base:
        net = _with_scales(net, name, model)
    if model.boundary_heads:
        _add_boundary_heads(net, name)
    report = load_trunk(net, model.pretrained) if model.pretrained else None
    # For messages about this network: its name and options, and what became of the ImageNet file.
    vars(net).update(arch=name, num_classes=num_classes, trunk_report=report)
    vars(net).update(model_options=dataclasses.asdict(model))
    return net
