# SPDX-License-Identifier: Apache-2.0
"""Networks small enough for tests: width 4, one block, three classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from network.build import build_net

TINY = {
    "hrnet_width": 4,
    "hrnet_modules": (1, 1, 1),
    "hrnet_blocks": 1,
    "ocr_mid_channels": 16,
    "ocr_key_channels": 8,
}
NUM_CLASSES = 3


def tiny_net(arch: str = "ocrnet.HRNet_Mscale", seed: int = 0, **options: Any) -> nn.Module:
    """A small network with lively weights: batch-norm statistics off zero, scores of size one."""
    torch.manual_seed(seed)
    if arch.endswith("_Mscale"):
        options = {"segattn_bot_ch": 8, **options}
    net = build_net(arch, NUM_CLASSES, **{**TINY, **options})
    enliven(net)
    return net


def enliven(net: nn.Module) -> None:
    """Weights as after training: no convolution near zero, no batch norm at its start."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.7 * module.weight[0].numel() ** -0.5)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)


def picture(height: int = 64, width: int = 96, batch: int = 1, seed: int = 0) -> Tensor:
    """Noise, (B, 3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, height, width, generator=generator)
