# SPDX-License-Identifier: Apache-2.0
"""Which architecture of this program a folder in hub format holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from network.convert.hub import HubFacts

Depths = tuple[int, ...]


def arch_of(facts: HubFacts) -> tuple[str, dict[str, Any]]:
    """Name of the architecture and its options; an empty name where there is none of that size.

    Other depths than published come as the option `stage_depths`.
    """
    kind, config = facts.architecture, facts.config
    if kind in ("SegformerForSemanticSegmentation", "SegformerForImageClassification"):
        family, sizes = "segformer", _mit_sizes(config, head=kind.endswith("Segmentation"))
    elif kind in ("SwinForImageClassification", "UperNetForSemanticSegmentation"):
        config = config.get("backbone_config", config)
        family, sizes = "swin", _swin_sizes(config)
    else:
        return "", {}
    if not sizes:
        return "", {}
    depths = tuple(config.get("depths", ()))
    exact = [name for name, published in sizes.items() if published == depths]
    size = next(iter([*exact, *sizes]))
    options: dict[str, Any] = {}
    if depths not in ((), sizes[size]):
        options["stage_depths"] = depths
    if facts.config.get("use_auxiliary_head", True) is False:
        options["aux_head"] = False
    name = f"{family}.{size}"
    if kind.endswith("ImageClassification"):
        return f"{name}_224", options
    return f"{name}_UPerNet" if kind.startswith("UperNet") else name, options


# The trunks are imported where they are asked for: a broken file breaks one family.


def _mit_sizes(config: Mapping[str, Any], *, head: bool) -> dict[str, Depths]:
    """The sizes with these channels, and with `head` its width, and their published depths."""
    from network.backbones.mit import SIZES

    channels, width = tuple(config.get("hidden_sizes", ())), config.get("decoder_hidden_size", 256)
    return {
        name: size.depths
        for name, size in SIZES.items()
        if size.channels == channels and (not head or size.head_width == width)
    }


def _swin_sizes(config: Mapping[str, Any]) -> dict[str, Depths]:
    """The sizes with this width and their published depths."""
    from network.backbones.swin import SIZES

    width = config.get("embed_dim")
    return {name: size.depths for name, size in SIZES.items() if size.width == width}
