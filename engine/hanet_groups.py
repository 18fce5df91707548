# SPDX-License-Identifier: Apache-2.0
"""Parameter groups of HANet's recipes: the attention blocks and the first trunk stages apart.

Source: training recipe of HANet (arXiv 2003.05128): a rate, exponent and decay of their own for
the blocks; published as a second optimiser, which is equivalent to two groups in one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from runtime.errors import UserError

BLOCK = re.compile(r"(^|\.)hanet\d(\.|$)")
EARLY = re.compile(r"(^|\.)layer[01](\.|$)")
SCHEDULE = "hanet"  # key of the schedule of the blocks


def hanet_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    hanet_lr: float = 0.0,
    hanet_wd: float = 1e-4,
    backbone_lr: float = 0.0,
) -> list[dict[str, Any]]:
    """torch's groups: the rest, the blocks with hanet_lr > 0, layer0 and layer1 with backbone_lr.

    Each has `lr`, `initial_lr` and `weight_decay`, the last two also a `name` for the log, and that
    of the blocks a `schedule`, the name of the schedule that the loop looks up. Raises UserError
    for a rate of parts that do not exist.
    """
    rest: list[nn.Parameter] = []
    blocks: list[nn.Parameter] = []
    early: list[nn.Parameter] = []
    for name, parameter in named:
        if hanet_lr > 0 and BLOCK.search(name):
            blocks.append(parameter)
        elif backbone_lr > 0 and EARLY.search(name):
            early.append(parameter)
        else:
            rest.append(parameter)
    if hanet_lr > 0 and not blocks:
        raise UserError(
            f"--hanet_lr {hanet_lr:g}: the network has no HANet block; add --hanet 1,1,1,1,0 or "
            "leave it out"
        )
    if backbone_lr > 0 and not early:
        raise UserError(
            f"--backbone_lr {backbone_lr:g}: the network has no layer0 or layer1; use --param_rules"
        )
    groups = [_group(rest, lr, weight_decay)]
    if blocks:
        own = {"name": "hanet", "schedule": SCHEDULE}
        groups.append({**_group(blocks, hanet_lr, hanet_wd), **own})
    if early:
        groups.append({**_group(early, backbone_lr, weight_decay), "name": "backbone"})
    return groups


def _group(params: list[nn.Parameter], lr: float, weight_decay: float) -> dict[str, Any]:
    return {"params": params, "lr": lr, "initial_lr": lr, "weight_decay": weight_decay}
