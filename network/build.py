# SPDX-License-Identifier: Apache-2.0
"""From an architecture name and options to a network.

    net = build_net("ocrnet.HRNet_Mscale", num_classes=19, n_scales=(0.5, 1.0, 2.0))

A new architecture file is listed in `ARCH_MODULES`; its table `ARCHS` (`network/arch.py`) names
the architectures. A name imports its own module alone, so that a broken file breaks one family.

Every listed network of one scale also has a multi-scale form, its name with `_Mscale` behind it:
`hrvit.b1_SegFormer_Mscale`. Where the published program has such a name, that one is meant.
"""

from __future__ import annotations

import dataclasses
import importlib
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from network.arch import Arch
from network.contract import Network
from network.convert import load_trunk
from network.heads.boundary import BoundaryHeads
from network.multiscale import MSCALE_OPTIONS, hierarchical
from runtime.errors import UserError, near
from runtime.normalisation import parsed, text_problem
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
    "efficientnet",
    "timm",
)

MSCALE_SUFFIX = "_Mscale"
EVERY_NETWORK = frozenset({"boundary_heads", "input_norm"})  # options of all of them


def _archs(module: str) -> Mapping[str, Arch]:
    """The table of a module; UserError, one line with file and error, if it cannot be imported."""
    try:
        archs: Mapping[str, Arch] = importlib.import_module(f"network.{module}").ARCHS
    except Exception as error:
        raise UserError(f"network/{module}.py cannot be imported: {_in_one_line(error)}") from error
    return archs


def _in_one_line(error: Exception) -> str:
    """Kind, text and place of an error in the code."""
    if isinstance(error, SyntaxError):
        text, file, line = error.msg, error.filename or "", error.lineno
    else:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        text, file, line = str(error), frame.filename, frame.lineno
    root = Path(__file__).resolve().parent.parent
    path = Path(file)
    place = path.relative_to(root) if path.is_relative_to(root) else path
    return " ".join(f"{type(error).__name__}: {text} ({place}, line {line})".split())


def _scanned() -> tuple[dict[str, Arch], list[str]]:
    """All listed architectures by full name, and a line for each module that is broken."""
    found: dict[str, Arch] = {}
    broken: list[str] = []
    for module in ARCH_MODULES:
        try:
            archs = _archs(module)
        except UserError as error:
            broken.append(str(error))
        else:
            found |= {f"{module}.{name}": arch for name, arch in archs.items()}
    return found, broken


def list_archs() -> list[str]:
    """Every name `--arch` takes, sorted; see `broken_modules` for what is left out."""
    return sorted(_scanned()[0])


def list_classifiers() -> list[str]:
    """The names among them that stand for classifiers of whole images."""
    return sorted(name for name, arch in _scanned()[0].items() if arch.classifier)


def broken_modules() -> list[str]:
    """A line for each architecture file that cannot be imported: its name and the error."""
    return _scanned()[1]


def arch_help(classifiers: bool = False) -> list[str]:
    """What `--arch help` prints: all names, or those of classifiers, and what is broken."""
    return (list_classifiers() if classifiers else list_archs()) + broken_modules()


def resolve_arch(arch: str) -> str:
    """The canonical `module.Function`.

    Raises UserError for anything else, with the nearest name, and for a file that cannot be
    imported.
    """
    name = arch.removeprefix("network.")
    if "_HANet" in name:  # published in the module of the plain networks
        name = name.replace("deepv3.", "hanet.", 1)
    if _find(name) is None:
        hint = near(name, list_archs())
        raise UserError(f"--arch {arch} is no architecture{hint}; --arch help lists all")
    return name


def _find(name: str) -> tuple[Arch, bool] | None:
    """The architecture behind a canonical name, and whether its multi-scale form is meant."""
    module, _, function = name.partition(".")
    if module not in ARCH_MODULES:
        return None
    archs = _archs(module)
    if function in archs:
        return archs[function], False
    base = archs.get(function.removesuffix(MSCALE_SUFFIX))
    if base is None or base.classifier or "n_scales" in base.reads:
        return None
    return base, True


def arch_named(arch: str) -> tuple[Arch, bool]:
    """The architecture of any spelling that `resolve_arch` takes, which may raise.

    Also whether its multi-scale form is meant.
    """
    found = _find(resolve_arch(arch))
    assert found is not None
    return found


def is_classifier(arch: str) -> bool:
    """Whether `arch` classifies whole images; UserError for an unknown name."""
    return arch_named(arch)[0].classifier


def used_options(arch: str) -> frozenset[str]:
    """The options that `arch` reads; `boundary_heads` every network with features does."""
    found, wrapped = arch_named(arch)
    return found.reads | MSCALE_OPTIONS if wrapped else found.reads


def _model_config(options: dict[str, Any]) -> ModelConfig:
    """Options (lists allowed for tuples) as a ModelConfig; UserError for unknown names."""
    known = {item.name for item in dataclasses.fields(ModelConfig)}
    for name in options:
        if name not in known:
            raise UserError(f"{name} is no option of a network{near(name, known)}")
    values: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    model = ModelConfig(**values)
    check_scales(model.n_scales)
    if problem := text_problem(model.input_norm):
        raise UserError(f"--input_norm {model.input_norm}: {problem}")
    return model


def _refuse_useless(arch: str, model: ModelConfig, used: frozenset[str]) -> None:
    for item in dataclasses.fields(ModelConfig):
        if item.name not in used and getattr(model, item.name) != item.default:
            value = getattr(model, item.name)
            if item.name == "trunk":
                raise UserError(
                    f"--trunk {value}: {arch} has a trunk of its own; leave it out, or take an "
                    "architecture timm.*"
                )
            raise UserError(f"{item.name}={value} has no effect on {arch}; leave it out")


def _add_boundary_heads(net: Network, name: str) -> None:
    """Give `net`, or the network inside its multi-scale wrapper, boundary heads."""
    core = net.one_scale
    if core is None:
        raise UserError(
            f"{name} offers no features to boundary heads: boundary_heads (--dt_offset_wt) has no "
            "effect on it"
        )
    if not core.boundary_parts:
        core.add_boundary(BoundaryHeads(core.feature_channels))


def _build(name: str, num_classes: int, model: ModelConfig) -> Network:
    """The network behind a name, at several scales where the name says so."""
    arch, wrapped = arch_named(name)
    net = arch.build(num_classes, model)
    if not wrapped:
        return net
    if net.one_scale is not net:
        raise UserError(f"--arch {name}: this network cannot be run at several scales")
    return hierarchical(net.one_scale, model)


def build_net(arch: str, num_classes: int, **options: Any) -> Network:
    """The network `arch`; `options` are the fields of `settings.model.ModelConfig`.

    Raises UserError for an unknown arch or option, an option that the arch does not use, and a
    `pretrained` file that is missing or belongs to another trunk.
    """
    name = resolve_arch(arch)
    if num_classes < 1:
        raise UserError(f"num_classes {num_classes}: at least one class wanted")
    model = _model_config(options)
    _refuse_useless(name, model, used_options(name) | EVERY_NETWORK)
    net = _build(name, num_classes, model)
    if model.boundary_heads:
        _add_boundary_heads(net, name)
    net.arch, net.num_classes, net.model_options = name, num_classes, dataclasses.asdict(model)
    if model.input_norm:
        net.take_input_norm(parsed(model.input_norm))
    if model.pretrained:
        net.trunk_report = load_trunk(net, model.pretrained)
    return net
