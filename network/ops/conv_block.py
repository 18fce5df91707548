# SPDX-License-Identifier: Apache-2.0
"""Convolution, batch norm and ReLU under the names `conv` and `bn`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from network.ops.conv import conv
from network.ops.joined_conv import JoinedConv


class ConvBlock(nn.Sequential):
    """(B, inputs, H, W) -> (B, outputs, H, W) by a "same" convolution, batch norm and ReLU.

    `inputs` are the channels of a map, or those of each of several maps that `join` brings. The
    convolution starts Kaiming normal by fan-out and has no bias. Keys `conv.*`, `bn.*`.
    """

    conv: nn.Conv2d
    bn: nn.Module
    relu: nn.Module

    def __init__(self, inputs: int | Sequence[int], outputs: int, kernel: int) -> None:
        if isinstance(inputs, int):
            layer = conv(inputs, outputs, kernel)
        else:
            layer = JoinedConv(inputs, outputs, kernel)
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        layers = {"conv": layer, "bn": nn.BatchNorm2d(outputs), "relu": nn.ReLU(inplace=True)}
        super().__init__(OrderedDict(layers))
