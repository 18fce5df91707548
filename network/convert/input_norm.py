# SPDX-License-Identifier: Apache-2.0
"""How the weights of a file want images normalised: what the file says, and what the user says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from network.backbones.trunk import Trunk
from network.contract import Network
from network.convert import hub, timm
from runtime.errors import UserError
from runtime.normalisation import IMAGENET, Normalisation, parsed

MEAN, STD = "input_mean", "input_std"  # entries of a checkpoint of this program


def input_facts(net: nn.Module) -> dict[str, list[float]]:
    """The entries of a checkpoint with the weights of `net`."""
    norm = net.input_norm if isinstance(net, Network) else IMAGENET
    return {MEAN: list(norm.mean), STD: list(norm.std)}


def stated(net: nn.Module, facts: Mapping[str, Any], title: str) -> Normalisation | None:
    """What a file says by its entries besides the weights, or by its name; None: nothing.

    Files of this program that lack the entries were written when nothing but the trunk of `net`
    could say it: what it states by itself, ImageNet's for most.
    """
    folder = facts.get(hub.KEY)
    if isinstance(folder, hub.HubFacts):
        return folder.norm
    if "model_options" not in facts:
        return timm.norm_of_name(Path(title).name)
    if MEAN not in facts:
        trunk = net.trunk if isinstance(net, Network) else net
        return trunk.native_norm if isinstance(trunk, Trunk) else IMAGENET
    red, green, blue = facts[MEAN]
    dark, middle, light = facts[STD]
    return Normalisation((red, green, blue), (dark, middle, light))


def agreed(net: nn.Module, facts: Mapping[str, Any], title: str) -> Normalisation | None:
    """What the file says; UserError if the option `input_norm` of `net` says something else."""
    norm = stated(net, facts, title)
    options = net.model_options if isinstance(net, Network) else None
    wanted = (options or {}).get("input_norm")
    if norm is not None and wanted and parsed(wanted) != norm:
        raise UserError(
            f"{title} says that its weights want images with {norm}, --input_norm {wanted} is "
            f"{parsed(wanted)}; leave it out, the file knows its own"
        )
    return norm


def take(net: nn.Module, norm: Normalisation | None) -> None:
    """Let `net`, a network or a trunk, serve weights that want `norm`; None changes nothing."""
    if norm is None:
        return
    if isinstance(net, Network):
        net.take_input_norm(norm)
    elif isinstance(net, Trunk):
        net.mean, net.std = norm
