# SPDX-License-Identifier: Apache-2.0
"""Parameter groups by rules on names: other rates and decays for heads, norms, positions.

    rules = [ParamRule(key="head", lr=10.0), ParamRule(key="norm", decay=0.0)]
    groups = make_groups(net.named_parameters(), rules, lr=6e-5, weight_decay=0.01)

A rule matches every parameter whose dotted name contains its key. One rule decides: the one with
the longest key, or the alphabetically first of equally long ones; what it does not set is 1,
whatever shorter rules say.

Source: recorded parameter groups of mmsegmentation 0.11 recipes (`custom_keys`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from runtime.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ParamRule:
    """Multipliers of learning rate and weight decay for names that contain `key`."""

    key: str
    lr: float = 1.0
    decay: float = 1.0


NO_RULE = ParamRule(key="")


def rule_of(name: str, rules: Sequence[ParamRule]) -> ParamRule:
    """The one rule that decides about a parameter; `NO_RULE` if none matches."""
    holding = [rule for rule in rules if rule.key in name]
    return min(holding, key=lambda rule: (-len(rule.key), rule.key), default=NO_RULE)


def check_rules(names: Iterable[str], rules: Sequence[ParamRule]) -> None:
    """Raise UserError for a rule that decides about no parameter of the network."""
    listed = list(names)
    used = {rule_of(name, rules).key for name in listed}
    for rule in rules:
        if rule.key in used:
            continue
        if any(rule.key in name for name in listed):
            why = "every name that contains it falls under a longer rule"
        else:
            tops = sorted({name.split(".", 1)[0] for name in listed})
            why = f"no parameter name contains it; names start with {', '.join(tops)}"
        raise UserError(f"--param_rules {rule.key}: {why}; correct the rule or leave it out")


def layer_factors(layers: Mapping[str, int], decay: float) -> dict[str, float]:
    """Factor of the rate of each parameter: 1 for the last layer, `decay` for the one before it.

    What `layers` does not name, such as a head, has the rate of the last layer.

    Source: Clark et al., "ELECTRA" (2020), appendix A; for segmentation Bao et al., "BEiT" (2021).
    """
    top = max(layers.values(), default=0)
    return {name: decay ** (top - layer) for name, layer in layers.items()}


def make_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    rules: Sequence[ParamRule],
    *,
    lr: float,
    weight_decay: float,
    decay_vectors: bool = True,
    factors: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """torch's parameter groups, one per pair of multipliers.

    Each has `lr`, `initial_lr` and `weight_decay` after its multipliers, which it keeps as
    `lr_mult` and `decay_mult`. The group without multipliers comes first: its rate is the one
    in the log. Inside a group parameters stand in the order of `named`. Without `decay_vectors`
    biases and tensors of one dimension are never decayed, as in ImageNet recipes. `factors` of
    single parameters multiply their rates further.
    """
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        rule = rule_of(name, rules)
        is_vector = parameter.ndim <= 1 or name.endswith(".bias")
        decay = rule.decay if decay_vectors or not is_vector else 0.0
        rate = rule.lr * (1.0 if factors is None else factors.get(name, 1.0))
        members.setdefault((rate, decay), []).append(parameter)
    order = sorted(members, key=lambda pair: pair != (1.0, 1.0))
    return [
        {
            "params": members[lr_mult, decay_mult],
            "lr": lr * lr_mult,
            "initial_lr": lr * lr_mult,
            "weight_decay": weight_decay * decay_mult,
            "lr_mult": lr_mult,
            "decay_mult": decay_mult,
        }
        for lr_mult, decay_mult in order
    ]


def describe(groups: Sequence[dict[str, Any]]) -> str:
    """The groups on one line for the log."""
    parts = []
    for group in groups:
        params = group["params"]
        count = sum(item.numel() for item in params)
        parts.append(
            f"{len(params)} tensors ({count:,} values) lr {group['initial_lr']:g} "
            f"decay {group['weight_decay']:g}"
        )
    return "parameter groups: " + "; ".join(parts)
