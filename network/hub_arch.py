# SPDX-License-Identifier: Apache-2.0
"""Which architecture of this program a folder in hub format holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from network.backbones import mit, swin
from network.convert.hub import HubFacts


def arch_of(facts: HubFacts) -> tuple[str, dict[str, Any]]:
    """Name of the architecture and its options; an empty name where there is none of that size.

    Other depths than published come as the option `stage_depths`.
    """
    kind, config = facts.architecture, facts.config
    if kind in ("SegformerForSemanticSegmentation", "SegformerForImageClassification"):
        size = _mit_size(config, head=kind.endswith("Segmentation"))
        name, depths = f"segformer.{size}", mit.SIZES[size].depths if size else ()
    elif kind in ("SwinForImageClassification", "UperNetForSemanticSegmentation"):
        config = config.get("backbone_config", config)
        size = _swin_size(config)
        name, depths = f"swin.{size}", swin.SIZES[size].depths if size else ()
    else:
        return "", {}
    if not size:
        return "", {}
    options: dict[str, Any] = {}
    if tuple(config.get("depths", depths)) != depths:
        options["stage_depths"] = tuple(config["depths"])
    if facts.config.get("use_auxiliary_head", True) is False:
        options["aux_head"] = False
    if kind.endswith("ImageClassification"):
        return f"{name}_224", options
    return f"{name}_UPerNet" if kind.startswith("UperNet") else name, options


def _mit_size(config: Mapping[str, Any], *, head: bool) -> str:
    """The size with these channels and the nearest depths; empty if none has the channels."""
    channels, depths = tuple(config.get("hidden_sizes", ())), tuple(config.get("depths", ()))
    width = config.get("decoder_hidden_size", 256)
    fitting = [
        name
        for name, size in mit.SIZES.items()
        if size.channels == channels and (not head or size.head_width == width)
    ]
    return _with_depths(fitting, {name: mit.SIZES[name].depths for name in fitting}, depths)


def _swin_size(config: Mapping[str, Any]) -> str:
    width, depths = config.get("embed_dim"), tuple(config.get("depths", ()))
    fitting = [name for name, size in swin.SIZES.items() if size.width == width]
    return _with_depths(fitting, {name: swin.SIZES[name].depths for name in fitting}, depths)


def _with_depths(
    names: list[str], depths: Mapping[str, tuple[int, ...]], wanted: tuple[int, ...]
) -> str:
    exact = [name for name in names if depths[name] == wanted]
    return next(iter([*exact, *names]), "")
