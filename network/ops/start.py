# SPDX-License-Identifier: Apache-2.0
"""How the layers of the transformer trunks start."""

from __future__ import annotations

import math

from torch import nn


def start_transformer(module: nn.Module) -> None:
    """Initialise every layer below `module`, in place.

    Linear: truncated normal of deviation 0.02, bias 0. Convolution: normal of variance
    2 / fan_out, bias 0. Layer norm: weight 1, bias 0 (PyTorch's own start).
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
        elif isinstance(layer, nn.Conv2d):
            fan_out = math.prod(layer.kernel_size) * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
