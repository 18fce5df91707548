# SPDX-License-Identifier: Apache-2.0
"""Options of HANet's blocks, and how they are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from settings.declare import IN_FILE, SEGMENT, Bounds, Group, setting
from settings.needs import OWN_RATE, TRAINS
from settings.ranges import EXPONENT, FACTOR, RATE


@dataclass(frozen=True, kw_only=True)
class HanetOptions:
    """Height-driven attention blocks."""

    GROUP: ClassVar[Group] = Group(title="height attention", task=SEGMENT, resume=IN_FILE)

    hanet: tuple[int, int, int, int, int] = setting(
        (0, 0, 0, 0, 0),
        "--hanet",
        bounds=Bounds(0, 1),
        words=True,
        help="HANet blocks on (1) or off (0): after trunk, ASPP, bottleneck, head, scores",
        metavar="N",
    )
    hanet_set: tuple[int, int, int] = setting(
        (3, 64, 3),
        "--hanet_set",
        bounds=Bounds(-4096, 4096),
        words=True,
        help="kernel, reduction (below 0: expansion) and layers (2 or 3) of a HANet block",
        metavar="N",
    )
    hanet_pos: tuple[int, ...] = setting(
        (2, 1),
        "--hanet_pos",
        bounds=Bounds(0, 4096),
        words=True,
        counts=(2, 3),
        help="layer of a HANet block that gets the height code (0 none, 1, 2), then its kind: "
        "1 sinusoids, 0 learned",
        metavar="N",
    )
    hanet_pooling: str = setting(
        "mean", "--pooling", choices=("mean", "max"), help="how a HANet block pools over the width"
    )
    hanet_dropout: float = setting(
        0.0,
        "--dropout",
        bounds=Bounds(0, 0.99),
        help="share of channels that a HANet block drops whole",
    )
    pos_rfactor: int = setting(
        8,
        "--pos_rfactor",
        bounds=Bounds(0, 128),
        help="128 / rows of a HANet block, published 8: 16 rows; 0 only without blocks",
    )
    pos_noise: float = setting(
        0.0,
        "--pos_noise",
        bounds=Bounds(0, 16),
        help="HANet: noise of row positions in training, standard deviation in rows",
    )
    aux_loss: bool = setting(
        False, "--aux_loss", help="HANet: auxiliary head on the third map, weight --ocr_alpha"
    )
    fixed_aspp_pool: bool = setting(
        False,
        "--fixed_aspp_pool",
        help="HANet: 105x105 windows in place of the image pooling of the ASPP",
    )


@dataclass(frozen=True, kw_only=True)
class HanetSettings:
    """How HANet trains its blocks: rates and losses of their own."""

    GROUP: ClassVar[Group] = Group(title="HANet training")

    hanet_lr: float = setting(
        0.0,
        "--hanet_lr",
        bounds=RATE,
        help="learning rate of the HANet blocks, 0: --lr",
        needs=TRAINS,
        excludes=("param_rules",),
        idle=True,
    )
    hanet_wd: float = setting(
        0.0001,
        "--hanet_wd",
        bounds=RATE,
        help="weight decay of the HANet blocks",
        needs=OWN_RATE,
        idle=True,
    )
    hanet_poly_exp: float = setting(
        0.0,
        "--hanet_poly_exp",
        bounds=EXPONENT,
        help="poly exponent of the HANet blocks, 0: --poly_exp",
        needs=OWN_RATE,
        idle=True,
    )
    backbone_lr: float = setting(
        0.0,
        "--backbone_lr",
        bounds=RATE,
        help="learning rate of the trunk's layer0 and layer1, 0: --lr",
        needs=TRAINS,
        excludes=("param_rules",),
        idle=True,
    )
    attention_loss: float = setting(
        0.0,
        "--attention_loss",
        bounds=FACTOR,
        help="HANet: weight of the loss that supervises the fifth block",
    )
