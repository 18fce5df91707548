# SPDX-License-Identifier: Apache-2.0
"""A narrow HRViT with all its branches and fusions."""

from __future__ import annotations

import torch
from torch import nn

from network.backbones.hrvit import HRViT, Variant
from tests.network.tiny import enliven

TINY = Variant(
    channels=(8, 16, 24, 32),
    head_width=8,
    ffn_ratios=(2, 2, 2, 2),
    blocks=((1,), (1, 1), (1, 1, 2), (1, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1)),
)


def tiny_hrvit(seed: int = 0, drop_path: float = 0.0, grad_ckpt: bool = False) -> HRViT:
    """The trunk with lively weights, attention included."""
    torch.manual_seed(seed)
    trunk = HRViT(TINY, drop_path=drop_path, grad_ckpt=grad_ckpt)
    enliven(trunk)
    for module in trunk.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    return trunk
