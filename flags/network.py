# SPDX-License-Identifier: Apache-2.0
"""Flags that choose the network and its weights."""

from __future__ import annotations

from collections.abc import Callable

from flags.values import SCALES, file_name, fraction, listed, number, whole_numbers


def add_network(add: Callable[..., object]) -> None:
    add("--arch", default="ocrnet.HRNet_Mscale", help="network, module.Function; `help` lists all")
    scales, width = listed(float, low=SCALES[0], high=SCALES[1]), number(int, 1, 4096)
    add("--n_scales", type=scales, help="scales of in-network inference, e.g. 0.5,1.0,2.0")
    add(
        "--mscale_lo_scale",
        type=number(float, 0.05, 0.95),
        default=0.5,
        help="low scale of the training pair",
    )
    add("--align_corners", action="store_true", help="align corners in every bilinear resize")
    add("--segattn_bot_ch", type=width, default=256, help="width of attention/seg heads")
    add("--aspp_bot_ch", type=width, default=256, help="width of the ASPP bottleneck")
    add("--mscale_dropout", action="store_true", help="dropout in the attention head")
    add("--mscale_no3x3", action="store_true", help="attention head without its second 3x3")
    add("--mscale_old_arch", action="store_true", help="attention head with zero start, old keys")
    add("--attnscale_bn_head", action="store_true", help="batch norm in the attnscale head")
    add("--drop_path", type=fraction, help="largest stochastic depth rate, of transformers")
    add("--head_drop", type=fraction, help="dropout before the last layer of a classifier")
    add(
        "--pretrained",
        type=file_name,
        default="",
        metavar="FILE",
        help="weights of the trunk, a file or folder",
    )
    add(
        "--snapshot",
        type=file_name,
        metavar="FILE",
        help="load the weights of a file or folder, any known layout",
    )
    add("--allow_partial", default="", metavar="P,P", help="key prefixes that may not fit")
    add(
        "--from_run",
        type=file_name,
        metavar="DIR",
        help="network and evaluation settings of DIR/run.json",
    )


def add_height_attention(add: Callable[..., object]) -> None:
    five, pair = whole_numbers(5, low=0, high=1), whole_numbers(2, 3, low=0, high=4096)
    three = whole_numbers(3, low=-4096, high=4096)
    add(
        "--hanet",
        nargs="+",
        action=five,
        default=(0, 0, 0, 0, 0),
        metavar="N",
        help="HANet blocks on or off: after trunk, ASPP, bottleneck, head, scores",
    )
    add(
        "--hanet_set",
        nargs="+",
        action=three,
        default=(3, 64, 3),
        metavar="N",
        help="kernel, reduction (below 0: expansion) and layers (2 or 3) of a block",
    )
    add(
        "--hanet_pos",
        nargs="+",
        action=pair,
        default=(2, 1),
        metavar="N",
        help="layer that gets the height code (0 none, 1, 2); 1 sinusoids, 0 learned",
    )
    add("--pooling", choices=("mean", "max"), default="mean", help="over the width, in a block")
    add("--dropout", type=fraction, default=0.0, help="of whole channels, in a block")
    add(
        "--pos_rfactor",
        type=number(int, 0, 128),
        default=8,
        help="128 / rows of a block; 0 only without blocks",
    )
    add(
        "--pos_noise",
        type=number(float, 0, 16),
        default=0.0,
        help="of positions in training, in rows",
    )
    add("--aux_loss", action="store_true", help="HANet: auxiliary head, weight --ocr_alpha")
    add("--fixed_aspp_pool", action="store_true", help="HANet: 105x105 means as image pooling")
