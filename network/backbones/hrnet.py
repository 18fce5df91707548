# SPDX-License-Identifier: Apache-2.0
"""HRNet: parallel branches from stride 4 down to stride 32, fused after every module.

Source: Sun et al., "High-Resolution Representations for Labeling Pixels and Regions" (2019);
attribute names are those of the published weights.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.backbones.trunk import Trunk
from network.ops.conv import conv, conv_bn, conv_bn_relu
from network.ops.resize import resize, size_of

STEM_WIDTH, LAYER1_WIDTH = 64, 256
PUBLISHED_MODULES, PUBLISHED_BLOCKS = (1, 4, 3), 4


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a residual sum, ReLU after it: (B, C, H, W) -> (B, 256, H, W)."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = conv_bn(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += self.downsample(x)
        return self.relu(out)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual sum, ReLU after it; size and width stay."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


def _fuse_path(source: int, target: int, widths: Sequence[int]) -> nn.Module:
    """Branch `source` to the width (and, going down, the size) of branch `target`."""
    if source == target:
        return nn.Identity()
    if source > target:
        return conv_bn(widths[source], widths[target], 1)
    steps: list[nn.Module] = [
        conv_bn_relu(widths[source], widths[source], 3, stride=2)
        for _ in range(target - source - 1)
    ]
    return nn.Sequential(*steps, conv_bn(widths[source], widths[target], 3, stride=2))


class FusedModule(nn.Module):
    """`num_blocks` basic blocks a branch, then every branch gets the sum over all of them."""

    def __init__(self, widths: Sequence[int], num_blocks: int, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width) for _ in range(num_blocks))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse_path(source, target, widths) for source in range(len(widths)))
            for target in range(len(widths))
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        return [self._fuse(target, maps) for target in range(len(maps))]

    def _fuse(self, target: int, maps: list[Tensor]) -> Tensor:
        size = size_of(maps[target])
        paths = zip(self.fuse_layers[target].children(), maps, strict=True)
        terms = (resize(path(x), size, self.align_corners) for path, x in paths)
        return F.relu(functools.reduce(torch.add, terms), inplace=True)


class HRNet(Trunk):
    """(B, 3, H, W) -> four maps of widths w, 2w, 4w, 8w at strides 4, 8, 16, 32.

    Sizes are rounded up at every stride, so any H, W will do. `width` 48, 32 and 18 are the
    published ones; `grad_ckpt` cuts between the fused modules.
    """

    strides = (4, 8, 16, 32)
    channels_last = True

    def __init__(
        self,
        width: int = 48,
        *,
        modules: tuple[int, int, int] = PUBLISHED_MODULES,
        blocks: int = PUBLISHED_BLOCKS,
        align_corners: bool = False,
        grad_ckpt: bool = False,
    ) -> None:
        super().__init__(grad_ckpt)
        self.channels = tuple(width * 2**branch for branch in range(4))
        self.align_corners = align_corners
        self.conv1, self.bn1 = conv(3, STEM_WIDTH, 3, 2), nn.BatchNorm2d(STEM_WIDTH)
        self.conv2, self.bn2 = conv(STEM_WIDTH, STEM_WIDTH, 3, 2), nn.BatchNorm2d(STEM_WIDTH)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(
            Bottleneck(STEM_WIDTH, STEM_WIDTH, LAYER1_WIDTH),
            *(Bottleneck(LAYER1_WIDTH, STEM_WIDTH, LAYER1_WIDTH) for _ in range(3)),
        )
        widths = self.channels
        self.transition1 = nn.ModuleList(
            [
                conv_bn_relu(LAYER1_WIDTH, widths[0], 3),
                nn.Sequential(conv_bn_relu(LAYER1_WIDTH, widths[1], 3, stride=2)),
            ]
        )
        self.stage2 = self._stage(widths[:2], modules[0], blocks)
        self.transition2 = self._new_branch(widths[1], widths[2], existing=2)
        self.stage3 = self._stage(widths[:3], modules[1], blocks)
        self.transition3 = self._new_branch(widths[2], widths[3], existing=3)
        self.stage4 = self._stage(widths, modules[2], blocks)
        self._init_weights()

    def _stage(self, widths: Sequence[int], num_modules: int, blocks: int) -> nn.ModuleList:
        return nn.ModuleList(
            FusedModule(widths, blocks, self.align_corners) for _ in range(num_modules)
        )

    @staticmethod
    def _new_branch(inputs: int, outputs: int, existing: int) -> nn.ModuleList:
        # The new branch stands behind the untouched ones: its index is part of the keys.
        new = nn.Sequential(conv_bn_relu(inputs, outputs, 3, stride=2))
        return nn.ModuleList([*(nn.Identity() for _ in range(existing)), new])

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.001)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.run(self.layer1, x)
        maps = [transition(x) for transition in self.transition1]
        for module in self.stage2:
            maps = self.run(module, maps)
        maps.append(self.transition2[-1](maps[-1]))
        for module in self.stage3:
            maps = self.run(module, maps)
        maps.append(self.transition3[-1](maps[-1]))
        for module in self.stage4:
            maps = self.run(module, maps)
        return maps
