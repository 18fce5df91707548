# SPDX-License-Identifier: Apache-2.0
"""Weights of other programs with one entry of another shape or kind: refused in one line."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SwinConfig,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from config import UserError
from network.build import build_net
from network.convert import load_official
from tests.network.convert.test_mmseg1 import DEPTHS, head_file, mit_file, ocr_file
from tests.network.tiny import NUM_CLASSES, tiny_net

DAMAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "one number": lambda value: torch.zeros(()),
    "nothing": lambda value: torch.zeros(0),
    "a row": lambda value: value.reshape(-1)[:-1],
    "a row less": lambda value: value[:-1],
    "a column less": lambda value: value[..., :-1],
    "an axis more": lambda value: value[..., None].expand(*value.shape, 3),
    "complex numbers": lambda value: value.to(torch.complex64),
}
File = tuple[nn.Module, dict[str, Tensor]]  # a network, and weights that fit it


def hub_segformer() -> File:
    config = SegformerConfig(num_labels=NUM_CLASSES, depths=list(DEPTHS))
    net = build_net("segformer.B0", NUM_CLASSES, stage_depths=DEPTHS)
    return net, SegformerForSemanticSegmentation(config).state_dict()


def hub_upernet() -> File:
    inner = SwinConfig(depths=list(DEPTHS), out_features=[f"stage{n}" for n in (1, 2, 3, 4)])
    config = UperNetConfig(num_labels=NUM_CLASSES, backbone_config=inner)
    net = build_net("swin.T_UPerNet", NUM_CLASSES, stage_depths=DEPTHS)
    return net, UperNetForSemanticSegmentation(config).state_dict()


def mmseg_segformer() -> File:
    net = build_net("segformer.B0", NUM_CLASSES, stage_depths=DEPTHS)
    return net, {**mit_file(net), **head_file()}


def mmseg_ocr() -> File:
    net = tiny_net("ocrnet.HRNet")
    return net, ocr_file(net)


@pytest.mark.slow
@pytest.mark.parametrize("make", [hub_segformer, hub_upernet, mmseg_segformer, mmseg_ocr])
def test_every_entry_may_be_damaged_in_every_way(make: Callable[[], File]) -> None:
    net, state = make()
    unused = set(load_official(net, state).dropped)
    kinds: dict[str, str] = {}  # of entries that differ in numbers alone, one
    for key, value in state.items():
        if value.ndim and key not in unused:
            kinds.setdefault(re.sub(r"\d+", "#", key), key)
    for key in kinds.values():
        for damage in DAMAGES.values():
            with pytest.raises(UserError, match=r"^[^\n]+$"):
                load_official(net, {**state, key: damage(state[key])})


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("decode_head.conv_seg.bias", "one number", "conv_seg.bias is a single number"),
        ("decode_head.conv_seg.weight", "complex numbers", "conv_seg.weight holds complex"),
        ("decode_head.fusion_conv.conv.weight", "a row", "1 mismatched"),
    ],
)
def test_an_entry_that_no_layer_can_hold_is_named(name: str, damage: str, words: str) -> None:
    net, state = mmseg_segformer()
    with pytest.raises(UserError, match=words):
        load_official(net, {**state, name: DAMAGES[damage](state[name])}, title="x.pth")
