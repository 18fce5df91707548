# SPDX-License-Identifier: Apache-2.0
"""UN-EPT small enough for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from network.backbones.deit import DeiT
from network.backbones.resnet_v1c import ResNetV1c
from network.heads.deformable import ContextBranch
from network.ops.resize import Size
from network.unept import UNEPT
from tests.network.tiny import enliven

NUM_CLASSES = 3


class TinyDeiT(DeiT):
    """Three blocks of width 12."""

    def __init__(self, grid: Size, *, grad_ckpt: bool = False) -> None:
        super().__init__(grid, width=12, depth=3, heads=2, grad_ckpt=grad_ckpt)


def tiny_context() -> ContextBranch:
    """One layer each, width 16."""
    return ContextBranch(16, heads=2, points=2, depth=1, hidden=16)


def tiny(
    trunk: str = "DeiT", seed: int = 0, num_classes: int = NUM_CLASSES, **options: Any
) -> UNEPT:
    """A narrow network with lively weights and a grid of 8x8 queries: images of 64x64."""
    torch.manual_seed(seed)
    backbone = ResNetV1c((1, 1, 1, 1)) if trunk == "R50" else TinyDeiT((4, 4))
    net = UNEPT(backbone, num_classes, tiny_context(), **{"grid": (8, 8), **options})
    enliven(net)
    for name, item in net.named_parameters():
        if "sampling_offsets" in name or "attention_weights" in name:
            nn.init.normal_(item, std=0.5)
    return net
