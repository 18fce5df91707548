# SPDX-License-Identifier: Apache-2.0
"""Convolution, batch norm and ReLU in the groupings that published key layouts use.

The position of a layer in its `Sequential` is part of the key of its weights, so the
groupings below are not interchangeable.
"""

from __future__ import annotations

from torch import nn


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """A convolution with "same" padding: size ceil(H / stride) for odd kernels."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias)


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Keys `0` (conv) and `1` (batch norm)."""
    return nn.Sequential(conv(inputs, outputs, kernel, stride), nn.BatchNorm2d(outputs))


def conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Keys `0` (conv) and `1` (batch norm)."""
    return nn.Sequential(*conv_bn(inputs, outputs, kernel, stride), nn.ReLU(inplace=True))


def bn_relu(channels: int) -> nn.Sequential:
    """Key `0` (batch norm); a group of its own, as in the OCR head."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
