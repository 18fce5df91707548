# SPDX-License-Identifier: Apache-2.0
"""The height codes of HANet blocks alone, from a checkpoint of any network that has them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from network.convert.checkpoint import split_weights
from network.convert.hanet import official_name
from network.convert.value_checks import not_finite
from runtime.errors import UserError

TABLE_END = ".pos_layer.weight"


def load_position_tables(net: nn.Module, content: dict[str, Any], title: str) -> list[str]:
    """Copy every table of `net` from a checkpoint of either key layout; the names copied.

    Raises UserError for a network without tables, and for one that the file lacks or has in
    another size.
    """
    state, _ = split_weights(content)
    found = {official_name(key.removeprefix("module.")): value for key, value in state.items()}
    own = {key: value for key, value in net.state_dict().items() if key.endswith(TABLE_END)}
    if not own:
        raise UserError(
            "--snapshot_pe: the network has no position table; see --hanet, --hanet_pos"
        )
    for key, value in own.items():
        given = found.get(official_name(key))
        if given is None or given.shape != value.shape:
            has = "none" if given is None else "x".join(map(str, given.shape))
            raise UserError(
                f"--snapshot_pe {title}: {key} of {'x'.join(map(str, value.shape))} wanted, the "
                f"file has {has}"
            )
    broken = not_finite({key: found[official_name(key)] for key in own})
    if broken is not None:
        raise UserError(f"--snapshot_pe {title}: {broken} holds NaN or infinite numbers")
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(found[official_name(key)])
    return sorted(own)
