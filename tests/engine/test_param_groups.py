# SPDX-License-Identifier: Apache-2.0
"""Which rule decides about a parameter, and the groups that follow."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from assembly.optimiser import make_optimizer
from config import UserError
from engine.param_groups import NO_RULE, ParamRule, check_rules, describe, make_groups, rule_of


class Net(nn.Module):
    """Names as in the published networks."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 1), "norm1": nn.LayerNorm(4)})
        self.decode_head = nn.ModuleDict(
            {"norm": nn.BatchNorm2d(4), "conv_seg": nn.Conv2d(4, 2, 1)}
        )


HEAD, NORM = ParamRule(key="head", lr=10.0), ParamRule(key="norm", decay=0.0)


def test_the_longest_key_decides_and_its_missing_factor_is_one() -> None:
    rules = [HEAD, ParamRule(key="decode_head.norm", decay=0.5), NORM]
    assert rule_of("decode_head.norm.weight", rules) == rules[1]
    assert rule_of("decode_head.conv_seg.bias", rules) == HEAD
    assert rule_of("backbone.norm1.bias", rules) == NORM
    assert rule_of("backbone.conv.bias", rules) == NO_RULE


def test_of_equally_long_keys_the_first_in_the_alphabet_decides() -> None:
    for rules in ([HEAD, NORM], [NORM, HEAD]):
        assert rule_of("decode_head.norm.weight", rules) == HEAD


def test_a_rule_without_a_parameter_is_an_error_that_says_why() -> None:
    names = [name for name, _ in Net().named_parameters()]
    check_rules(names, [HEAD, NORM])
    with pytest.raises(UserError, match="--param_rules pos_block: no parameter name contains it; "
                       "names start with backbone, decode_head"):  # fmt: skip
        check_rules(names, [HEAD, ParamRule(key="pos_block", decay=0.0)])
    with pytest.raises(UserError, match="--param_rules seg: every name .* longer rule"):
        check_rules(names, [HEAD, ParamRule(key="seg"), ParamRule(key="conv_seg")])


def test_groups_multiply_rate_and_decay_and_the_plain_one_comes_first() -> None:
    net = Net()
    groups = make_groups(
        reversed([*net.named_parameters()]), [HEAD, NORM], lr=0.1, weight_decay=0.2
    )
    shown = [(g["lr"], g["initial_lr"], g["weight_decay"], len(g["params"])) for g in groups]
    assert shown == [(0.1, 0.1, 0.2, 2), (1.0, 1.0, 0.2, 4), (0.1, 0.1, 0.0, 2)]
    assert sum(len(group["params"]) for group in groups) == len([*net.parameters()])
    assert describe(groups).startswith("parameter groups: 2 tensors (16 values) lr 0.1 decay 0.2;")


def test_an_optimiser_steps_every_group_by_its_own_rate() -> None:
    net = Net()
    groups = make_groups(net.named_parameters(), [HEAD, NORM], lr=0.1, weight_decay=0.2)
    before = {name: value.detach().clone() for name, value in net.named_parameters()}
    optimizer = make_optimizer(groups, "adamw", lr=0.1, weight_decay=0.2, betas=(0.8, 0.9))
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    factor = {"backbone.conv.weight": 0.98, "backbone.norm1.weight": 1.0}
    factor["decode_head.conv_seg.weight"] = 0.8
    after = dict(net.named_parameters())
    for name, want in factor.items():
        torch.testing.assert_close(after[name].detach(), want * before[name])
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)


def test_vectors_and_biases_are_not_decayed_where_the_recipe_says_so() -> None:
    net = Net()
    names = {id(item): name for name, item in net.named_parameters()}
    groups = make_groups(
        net.named_parameters(), [HEAD], lr=0.1, weight_decay=0.2, decay_vectors=False
    )
    shown = {
        (group["lr"], group["weight_decay"]): [names[id(item)] for item in group["params"]]
        for group in groups
    }
    assert shown[0.1, 0.2] == ["backbone.conv.weight"]
    assert shown[1.0, 0.2] == ["decode_head.conv_seg.weight"]
    assert len(shown[0.1, 0.0]) == 3 and len(shown[1.0, 0.0]) == 3
