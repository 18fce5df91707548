# SPDX-License-Identifier: Apache-2.0
"""Products of maps and tokens with a matrix, by oneDNN where PyTorch takes a slower library.

On the CPU PyTorch computes a 1x1 convolution by oneDNN only on several threads, and a linear layer
in float32 never. The library that it takes instead uses half of the vector units of processors of
other makers than its own: with AVX-512 on an AMD EPYC such layers take twice as long
(`python -m benchmarks.onednn`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST = 1 << 24  # multiply-adds of a call from which the detour pays


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` as a 1x1 convolution over the tokens: the same numbers to float noise.

    input (..., C), weight (K, C), bias (K) -> (..., K).
    """
    macs = input.numel() * len(weight)
    if macs < LEAST or input.dtype != torch.float32 or input.device.type != "cpu":
        return F.linear(input, weight, bias)
    # One row of N pixels in channels_last, which is how the tokens lie there.
    pixels = input.reshape(1, 1, -1, input.shape[-1]).permute(0, 3, 1, 2)
    output = F.conv2d(pixels, weight[:, :, None, None], bias, dilation=2)
    return output.permute(0, 2, 3, 1).reshape(*input.shape[:-1], len(weight))


class Linear(nn.Linear):
    """`nn.Linear` by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return linear(input, self.weight, self.bias)


def prefer_onednn(net: nn.Module) -> nn.Module:
    """`net` itself, on the CPU and in channels_last, with its 1x1 products by oneDNN.

    Keys and values of its weights stay. A 1x1 kernel has no neighbours, so its dilation changes
    nothing but the choice of the library. Kernels of subclasses of `nn.Linear` are left alone.
    """
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            module.dilation = (2, 2)
        elif type(module) is nn.Linear and name:
            net.set_submodule(name, _linear(module))
    return net


def _linear(module: nn.Linear) -> Linear:
    """A layer with the same parameters."""
    with torch.device("meta"):
        made = Linear(module.in_features, module.out_features, module.bias is not None)
    made.weight, made.bias = module.weight, module.bias
    return made.train(module.training)
