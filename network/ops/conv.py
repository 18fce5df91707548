# SPDX-License-Identifier: Apache-2.0
"""Convolution, batch norm and ReLU in the groupings that published key layouts use.

The position of a layer in its `Sequential` is part of the key of its weights, so the
groupings below are not interchangeable.
"""

from __future__ import annotations

from torch import nn


def conv(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    bias: bool = False,
    *,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Conv2d:
    """A convolution with "same" padding: size ceil(H / stride) for odd kernels."""
    padding = kernel // 2 * dilation
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias)


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Keys `0` (conv) and `1` (batch norm)."""
    return nn.Sequential(conv(inputs, outputs, kernel, stride), nn.BatchNorm2d(outputs))


def conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Keys `0` (conv) and `1` (batch norm)."""
    return nn.Sequential(*conv_bn(inputs, outputs, kernel, stride), nn.ReLU(inplace=True))


def bn_relu(channels: int) -> nn.Sequential:
    """Key `0` (batch norm); a group of its own, as in the OCR head."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def dilate(stage: nn.Sequential, rate: int) -> nn.Sequential:
    """`stage` itself, without stride and with dilation `rate` in every kernel above 1x1."""
    for layer in stage.modules():
        if isinstance(layer, nn.Conv2d):
            layer.stride = (1, 1)
            if layer.kernel_size != (1, 1):
                layer.dilation = (rate, rate)
                height, width = (size // 2 * rate for size in layer.kernel_size)
                layer.padding = (height, width)
    return stage
