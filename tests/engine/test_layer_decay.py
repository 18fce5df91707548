# SPDX-License-Identifier: Apache-2.0
"""`--layer_decay`: rates that fall from the head to the stem."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from assembly.optimiser import build_optimizer
from config import UserError
from engine.param_groups import ParamRule, layer_factors, make_groups
from network.build import build_net
from settings import Settings, read_settings

VIT = ["--arch", "timm.SegFormer_Mscale", "--trunk", "test_vit"]  # six narrow blocks


def rates(net: nn.Module, told: Settings) -> dict[str, float]:
    optimizer = build_optimizer(told, net, told.optimiser.lr, None)
    owner = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {name: owner[id(p)] for name, p in net.named_parameters()}


def test_each_layer_has_the_rate_of_the_next_times_the_factor() -> None:
    net = build_net("timm.SegFormer_Mscale", 3, trunk="test_vit")
    told = read_settings([*VIT, "--lr", "1.0", "--layer_decay", "0.5"])
    found, trunk = rates(net, told), "net.backbone"
    assert found["net.decode_head.linear_pred.weight"] == 1.0
    assert {rate for name, rate in found.items() if name.startswith("scale_attn")} == {1.0}
    assert found[f"{trunk}.pyramid.0.0.weight"] == 1.0
    assert found[f"{trunk}.blocks.5.norm1.weight"] == 0.5
    assert found[f"{trunk}.blocks.0.norm1.weight"] == pytest.approx(0.5**6)
    assert found[f"{trunk}.pos_embed"] == pytest.approx(0.5**7)


def test_rules_multiply_it_further() -> None:
    weights = [(name, nn.Parameter(torch.ones(2, 2))) for name in ("stem.weight", "head.weight")]
    groups = make_groups(
        weights,
        [ParamRule(key="stem", lr=10.0)],
        lr=1.0,
        weight_decay=0.0,
        factors=layer_factors({"stem.weight": 0, "block.weight": 2}, 0.1),
    )
    assert [(pytest.approx(group["lr"]), len(group["params"])) for group in groups] == [
        (1.0, 1),
        (0.1, 1),
    ]


def test_a_trunk_without_layers_is_refused() -> None:
    net = build_net("segformer.B0", 3)
    told = read_settings(["--arch", "segformer.B0", "--layer_decay", "0.5"])
    with pytest.raises(UserError, match=r"--layer_decay 0\.5 has no effect on segformer\.B0"):
        build_optimizer(told, net, 1.0, None)


@pytest.mark.parametrize("value", ["0", "1.5", "nan", "x"])
def test_a_factor_outside_its_range_is_refused(value: str) -> None:
    with pytest.raises(UserError, match="--layer_decay"):
        read_settings([*VIT, "--layer_decay", value])


def test_an_evaluation_has_no_rates() -> None:
    with pytest.raises(UserError, match="--layer_decay has no effect without training"):
        read_settings([*VIT, "--layer_decay", "0.5", "--eval", "val", "--snapshot", "net.pth"])
