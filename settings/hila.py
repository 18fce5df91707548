# SPDX-License-Identifier: Apache-2.0
"""Options of HILA's inter-level attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from settings.declare import BOTH, IN_FILE, Bounds, Group, setting


@dataclass(frozen=True, kw_only=True)
class HilaOptions:
    """Inter-level attention."""

    GROUP: ClassVar[Group] = Group(title="inter-level attention", task=BOTH, resume=IN_FILE)

    hila_stages: tuple[int, ...] | None = setting(
        None,
        bounds=Bounds(0, 16),
        help="HILA: stages that exchange with the one below; none: those in the name of the arch",
    )
    hila_stride: tuple[int, int, int, int] | None = setting(
        None, bounds=Bounds(0, 64), help="HILA: blocks from one exchange to the next, per stage"
    )
    hila_heads: tuple[int, int, int, int] | None = setting(
        None,
        bounds=Bounds(0, 64),
        help="HILA: heads of inter-level attention, per stage; published 1",
    )
    hila_mlp_ratios: tuple[int, int, int, int] | None = setting(
        None,
        bounds=Bounds(0, 64),
        help="HILA: width of the MLP / channels, per stage; published 4, on Swin 2",
    )
    hila_patch: int = setting(
        4, bounds=Bounds(0, 64), help="HILA: side of the window of bottom tokens: 2, 4, 6 or 8"
    )
    hila_share_topdown: bool = setting(
        True, help="HILA: one module for all top-down steps of a stage"
    )
    hila_share_bottomup: bool = setting(
        True, help="HILA: one module for all bottom-up steps of a stage"
    )
    hila_share_bottom: bool = setting(
        True, help="HILA: one module for all self-attention blocks after bottom-up steps of a stage"
    )
    hila_info_weights: tuple[float, float] = setting(
        (0.5, 0.5),
        bounds=Bounds(-100, 100),
        help="HILA: weights of the tokens before an exchange and of what it gives them",
    )
    hila_euclidean: bool = setting(
        False, help="HILA: attention scores by distance instead of by product"
    )
    hila_reuse_bottom: bool = setting(
        False, help="HILA: with --pretrained, bottom self-attention blocks start from their stage"
    )
    hila_legacy_shift: bool = setting(
        False, help="HILA on Swin: bottom windows go on turning from call to call, as published"
    )
    hila_raw_levels: bool = setting(
        False,
        help="HILA on Swin: levels below a layer without exchange miss their norm, as published",
    )
