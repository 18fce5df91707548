# SPDX-License-Identifier: Apache-2.0
"""Position tables alone, from files of either key layout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from config import UserError
from network.convert.position_tables import load_position_tables
from network.heads.hanet import HANet, HANetSettings

LEARNED = HANetSettings(sinusoid=False)


def test_only_the_tables_are_taken_and_misfits_are_one_line() -> None:
    net = nn.ModuleDict({f"hanet{place}": HANet(64, 32, LEARNED) for place in (1, 2)})
    net["final2"] = nn.Linear(2, 2)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    tables = [key for key in before if key.endswith("pos_layer.weight")]
    drawn = {key: torch.full_like(before[key], number + 1.0) for number, key in enumerate(tables)}
    state = {f"module.{key}": value for key, value in {**before, **drawn}.items()}
    state["module.final2.weight"] = torch.zeros(2, 2)
    assert load_position_tables(net, {"state_dict": state}, "f.pth") == sorted(tables)
    after = net.state_dict()
    assert all(torch.equal(after[key], drawn.get(key, before[key])) for key in before)
    state[f"module.{tables[0]}"] = torch.zeros(3, 2)
    with pytest.raises(UserError, match=r"--snapshot_pe f.pth: .* the file has 3x2"):
        load_position_tables(net, {"state_dict": state}, "f.pth")
    with pytest.raises(UserError, match="--snapshot_pe: the network has no position table"):
        load_position_tables(nn.Linear(2, 2), {"state_dict": state}, "f.pth")
