# SPDX-License-Identifier: Apache-2.0
"""Test-time refinement: boundary pixels take the scores of a neighbour inside their object.

Source: Zhu et al., "UN-EPT" (2021), which scores the moved prediction in training only; as a step
after the network, Yuan et al., "SegFix" (2020), section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from loss.boundary import refined as refined
from network.contract import Network, run_boundary_in_eval
from runtime.errors import UserError


def run_trained_heads(net: nn.Module, path: str, facts: Mapping[str, Any]) -> None:
    """Let the boundary heads of `net` run in evaluation, for `refined`.

    `facts` are the entries of the checkpoint `path` if this program wrote it, else {}. UserError if
    its boundary heads were not trained.
    """
    if facts:
        trained = facts["model_options"].get("boundary_heads", False)
    else:  # files of the published UN-EPT always hold trained ones
        inner = net.one_scale if isinstance(net, Network) else None
        trained = inner is not None and bool(inner.boundary_parts)
    if not trained:
        raise UserError(
            f"--refine_boundaries: {path} was trained without --dt_offset_wt, so it has no "
            "boundary heads that know anything; leave the flag out"
        )
    run_boundary_in_eval(net)
