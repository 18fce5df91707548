# SPDX-License-Identifier: Apache-2.0
"""Networks small enough for tests: narrow trunks, one block, three classes."""

from __future__ import annotations

from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from network.backbones import deeplab_trunks
from network.backbones.resnet import ResNet
from network.backbones.seresnext import SEResNeXt
from network.backbones.wider_resnet import WiderResNet38
from network.backbones.xception import Xception71
from network.build import build_net, used_options

TINY = {
    "hrnet_width": 4,
    "hrnet_modules": (1, 1, 1),
    "hrnet_blocks": 1,
    "ocr_mid_channels": 16,
    "ocr_key_channels": 8,
}
NARROW_HEADS = {"aspp_bot_ch": 8, "segattn_bot_ch": 8}
ONE_BLOCK = (1, 1, 1, 1)
TINY_TRUNKS = {  # EfficientNet-B4 is narrow enough as it is
    "resnet-50": partial(ResNet, blocks=ONE_BLOCK),
    "resnet-101": partial(ResNet, blocks=ONE_BLOCK),
    "seresnext-50": partial(SEResNeXt, blocks=ONE_BLOCK),
    "seresnext-101": partial(SEResNeXt, blocks=ONE_BLOCK),
    "wrn38": partial(WiderResNet38, 4),
    "xception71": partial(Xception71, (4, 8, 8, 12, 16, 20, 24, 28), middle=1),
}
NUM_CLASSES = 3


def tiny_net(arch: str = "ocrnet.HRNet_Mscale", seed: int = 0, **options: Any) -> nn.Module:
    """A small network with lively weights: batch-norm statistics off zero, scores of size one."""
    torch.manual_seed(seed)
    used = used_options(arch)
    every = {**TINY, **NARROW_HEADS}
    small = {name: value for name, value in every.items() if name in used}
    with mock.patch.dict(deeplab_trunks.TRUNKS, TINY_TRUNKS):
        net = build_net(arch, NUM_CLASSES, **{**small, **options})
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
