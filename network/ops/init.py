# SPDX-License-Identifier: Apache-2.0
"""Values that the layers of trunks and heads start from."""

from __future__ import annotations

import math

from torch import nn


def init_transformer(module: nn.Module) -> None:
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


def init_kaiming(*modules: nn.Module) -> None:
    """Convolutions Kaiming normal by fan-in, their bias 0; batch norms 1 and 0."""
    for layer in (layer for module in modules for layer in module.modules()):
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
