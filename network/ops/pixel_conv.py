# SPDX-License-Identifier: Apache-2.0
"""1x1 convolutions by the library that computes all others on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ONE = (1, 1)
DILATED = (2, 2)  # of a kernel of one pixel: nothing to the result, but torch then asks oneDNN
SMALL = 20480  # values of one image; torch computes smaller ones itself, dilated or not


class PixelConv(nn.Conv2d):
    """A 1x1 convolution of every pixel.

    With one thread torch gives it to the BLAS library that it was built with, Intel's MKL, which
    takes about twice the time of oneDNN on the CPUs of other makers, and more with memory
    channels last. The result differs by float noise.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        if not _goes_to_onednn(input, self.weight):
            return super().forward(input)
        return F.conv2d(input, self.weight, self.bias, dilation=DILATED, groups=self.groups)


def _goes_to_onednn(input: Tensor, weight: Tensor) -> bool:
    """Whether torch gives a dilated convolution of `input` to oneDNN, and no other does better."""
    return (
        input.device.type == "cpu"
        and input.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and (len(input) > 1 or input.numel() > SMALL)
    )


def use_pixel_convs(net: nn.Module) -> None:
    """Turn the 1x1 convolutions of every pixel in `net` into `PixelConv`s, in place.

    Weights and their names stay.
    """
    for module in net.modules():
        if type(module) is nn.Conv2d and _looks_at_pixels(module):
            module.__class__ = PixelConv


def _looks_at_pixels(conv: nn.Conv2d) -> bool:
    """Whether each pixel of the result comes from one pixel, and none is left out."""
    return (conv.kernel_size, conv.stride, conv.padding) == (ONE, ONE, (0, 0))
