# SPDX-License-Identifier: Apache-2.0
"""`Arch.reads` tells the truth: an option that changes a network is taken, any other refused.

Every architecture is built as if no option were ever refused, with each option changed in turn,
and compared with the one of published options: first by its shapes and attributes, without
memory (`meta` device); where only attributes differ, by what a small network really computes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from config import ModelConfig, UserError
from network import build
from network.backbones import deeplab_trunks
from network.build import used_options
from tests.network.tiny import NARROW_HEADS, TINY, TINY_TRUNKS, enliven, picture

CHANGED: dict[str, Any] = {
    "n_scales": (1.0, 1.5),
    "mscale_lo_scale": 0.75,
    "align_corners": True,
    "segattn_bot_ch": 24,
    "aspp_bot_ch": 24,
    "mscale_dropout": True,
    "mscale_no3x3": True,
    "mscale_old_arch": True,
    "attnscale_bn_head": True,
    "ocr_mid_channels": 24,
    "ocr_key_channels": 24,
    "hrnet_width": 20,
    "hrnet_modules": (1, 1, 2),
    "hrnet_blocks": 2,
    "drop_path": 0.55,
    "head_drop": 0.55,
    "aux_head": False,
    "query_grid": (8, 8),
    "batch_attention": "always",
    "hanet": (1, 1, 0, 1, 0),
    "hanet_set": (3, 32, 3),
    "hanet_pos": (1, 1),
    "hanet_pooling": "max",
    "hanet_dropout": 0.5,
    "pos_rfactor": 4,
    "pos_noise": 0.5,
    "aux_loss": True,
    "fixed_aspp_pool": True,
    "stage_depths": (1, 2, 4, 5),
    "hila_stages": (4,),
    "hila_stride": (3, 3, 3, 3),
    "hila_heads": (2, 2, 2, 2),
    "hila_mlp_ratios": (3, 3, 3, 3),
    "hila_patch": 2,
    "hila_share_topdown": False,
    "hila_share_bottomup": False,
    "hila_share_bottom": False,
    "hila_info_weights": (0.25, 0.75),
    "hila_euclidean": True,
    "hila_legacy_shift": True,
    "hila_raw_levels": True,
    "grad_ckpt": True,
    "trunk": "resnet18",
    "output_stride": 16,
    "trunk_size": (64, 96),
}
# What other options must be for these to matter at all: blocks, or several exchanges of a stage.
BESIDES: dict[str, dict[str, Any]] = {
    "hanet": {"hanet": (1, 1, 1, 1, 0)},
    "hila_stages": {"hila_stages": (3,), "stage_depths": (1, 2, 4, 4)},
    "trunk_size": {"trunk": "botnet26t_256"},  # that takes a size and a stride
}
ON_LOADING = {"pretrained", "hila_reuse_bottom"}  # change no network, only what a file gives it
# Read by `build_net` itself: the first for every network with maps, the other for all.
BY_BUILD = {"boundary_heads", "input_norm"}
NOT_RUN = {  # changes that a small run cannot show
    "grad_ckpt",  # memory alone
    "fixed_aspp_pool",  # a different mean from 105 map pixels on
}


def unchecked(arch: str, num_classes: int = 3, **options: Any) -> nn.Module:
    """The network, built without the check of useless options."""
    return build._build(arch, num_classes, ModelConfig(**options))


def beside(arch: str) -> dict[str, Any]:
    """The options that let the others of an arch matter."""
    used = used_options(arch)
    return {k: v for need, options in BESIDES.items() if need in used for k, v in options.items()}


class Watched(ModelConfig):
    """Options that note which of them are read."""

    read: set[str]

    def __getattribute__(self, name: str) -> Any:
        if name in CHANGED:
            vars(type(self))["read"].add(name)
        return super().__getattribute__(name)


def read_options(arch: str) -> set[str]:
    """The options that building the arch looks at."""
    kind = type("Noted", (Watched,), {"read": set()})
    with torch.device("meta"):
        build._build(arch, 3, kind(**beside(arch)))
    return kind.read


def is_plain(value: object) -> bool:
    """Whether it is a setting rather than a part."""
    if isinstance(value, tuple | list):
        return all(map(is_plain, value))
    return isinstance(value, int | float | str | bool | None)


def shapes(net: nn.Module) -> dict[str, torch.Size]:
    """Of all weights and statistics."""
    return {name: value.shape for name, value in net.state_dict().items()}


def settings(net: nn.Module) -> list[tuple[str, str, dict[str, Any]]]:
    """Name, kind and plain attributes of every part."""
    return [
        (name, type(part).__name__, {k: v for k, v in vars(part).items() if is_plain(v)})
        for name, part in net.named_modules()
    ]


def small_options(arch: str) -> dict[str, Any]:
    """Options that keep a real network of the arch small."""
    every = {**TINY, **NARROW_HEADS, "stage_depths": (1, 1, 1, 1), "query_grid": (4, 4)}
    used = used_options(arch)
    return {k: v for k, v in every.items() if k in used} | beside(arch)


def computed(arch: str, options: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any]:
    """All outputs in training, then in evaluation, of the arch with the weights `state`.

    Empty if these weights do not fit.
    """
    with mock.patch.dict(deeplab_trunks.TRUNKS, TINY_TRUNKS):
        net = unchecked(arch, **options)
    if state and {k: v.shape for k, v in state.items()} != shapes(net):
        return {}
    if state:
        net.load_state_dict(state)
    else:
        torch.manual_seed(0)
        enliven(net)
    size = (224, 224) if arch in build.list_classifiers() else (64, 96)
    rows = (torch.arange(size[0]) + 0.5).expand(2, -1) / size[0]
    outputs: dict[str, Any] = {"state": {k: v.clone() for k, v in net.state_dict().items()}}
    for mode in ("train", "eval"):
        torch.manual_seed(1)
        with torch.no_grad():
            found = net.train(mode == "train")(picture(*size, batch=2), rows, return_all=True)
        outputs |= {f"{mode} {key}": value for key, value in found.items()}
    return outputs


def differ(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two results of `computed` differ anywhere."""
    if one.keys() != other.keys():
        return True
    return any(
        one[key].shape != other[key].shape or not torch.equal(one[key], other[key])
        for key in one
        if key != "state"
    )


def what_changes(arch: str) -> tuple[set[str], set[str]]:
    """Options that change shapes or parts of the arch, and those that change attributes alone."""
    with torch.device("meta"):
        published = unchecked(arch, **beside(arch))
        structure, attributes = set[str](), set[str]()
        for name in sorted(read_options(arch)):
            net = unchecked(arch, **{**beside(arch), name: CHANGED[name]})
            if shapes(net) != shapes(published):
                structure.add(name)
            elif settings(net) != settings(published):
                attributes.add(name)
    return structure, attributes


def test_every_option_is_covered() -> None:
    options = {item.name for item in dataclasses.fields(ModelConfig)}
    assert CHANGED.keys() | ON_LOADING | BY_BUILD == options
    defaults = ModelConfig()
    assert all(value != getattr(defaults, name) for name, value in CHANGED.items())


HEADS_OF_A_WIDTH = (
    "basic.HRNet", "basic.HRNet_ASP", "deepv3.DeepV3R50", "mscale.HRNet", "mscale2.HRNet",
)  # fmt: skip


@pytest.mark.parametrize("arch", HEADS_OF_A_WIDTH)
def test_segattn_bot_ch_is_the_width_of_the_segmentation_head(arch: str) -> None:
    with torch.device("meta"):
        net = build.build_net(arch, 3, segattn_bot_ch=24)
        names = {name: tuple(item.shape) for name, item in net.named_parameters()}
    head = [name for name in names if name.rpartition(".0.weight")[0].endswith(("head", "final"))]
    assert len(head) == 1 and names[head[0]][0] == 24
    assert names[head[0].replace(".0.", ".3.")] == (24, 24, 3, 3)
    assert names[head[0].replace(".0.", ".6.")] == (3, 24, 1, 1)


@pytest.mark.parametrize("arch", ["deepv3.DeepV3PlusR50", "ocrnet.HRNet", "segformer.B0"])
def test_segattn_bot_ch_is_refused_where_no_head_has_that_width(arch: str) -> None:
    with pytest.raises(UserError, match="segattn_bot_ch=24 has no effect"):
        build.build_net(arch, 3, segattn_bot_ch=24)


@pytest.mark.slow
@pytest.mark.parametrize("module", build.ARCH_MODULES)
def test_an_option_is_taken_exactly_where_it_changes_the_network(module: str) -> None:
    families: dict[frozenset[str], list[str]] = {}
    for arch in build.list_archs():
        if arch.startswith(f"{module}."):
            families.setdefault(used_options(arch), []).append(arch)
    for used, archs in families.items():
        promised, left = used - ON_LOADING, set[str]()
        for arch in archs:
            structure, attributes = what_changes(arch)
            assert structure | attributes <= promised, arch
            left |= promised - structure  # to be shown by running the smallest of the family
            for name in CHANGED.keys() - used:
                says = (
                    "has a trunk of its own" if name == "trunk" else f"{name}=.* has no effect on"
                )
                with pytest.raises(UserError, match=says):
                    build.build_net(arch, 3, **{name: CHANGED[name]})
        with torch.device("meta"):
            sizes = {arch: sum(p.numel() for p in unchecked(arch).parameters()) for arch in archs}
        arch = min(archs, key=lambda each: sizes[each])
        options = small_options(arch)
        published = computed(arch, options, {})
        if arch in build.list_classifiers():
            left -= {"hila_raw_levels"}  # of levels below the last: which entries of a file fit
        for name in sorted(left - NOT_RUN):
            changed = {**options, name: CHANGED[name]}
            assert differ(computed(arch, changed, published["state"]), published), (arch, name)
