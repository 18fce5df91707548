# SPDX-License-Identifier: Apache-2.0
"""HRViT: four branches at strides 4 to 32, kept to the end, filled with transformer blocks.

Source: Gu et al., "Multi-Scale High-Resolution Vision Transformer for Semantic Segmentation"
(2021), section 3.1; attribute names are those of the published weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.backbones.hrvit_block import Block
from network.backbones.trunk import Trunk
from network.ops.conv import conv
from network.ops.drop_path import rising_rates
from network.ops.recompute import recomputed
from network.ops.resize import size_of
from network.ops.tokens import to_image, to_tokens

__all__ = ["VARIANTS", "HRViT", "HRViTBody", "Variant"]

STEM_WIDTH, STEM_INNER = 64, 32
WINDOWS = (1, 2, 7, 7)  # rows or columns of a stripe, by branch


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The numbers of one size.

    channels, ffn_ratios: by branch. blocks: for every stage the number of blocks of each of its
    branches. head_width: nominal width of an attention head.
    """

    channels: tuple[int, int, int, int]
    head_width: int
    ffn_ratios: tuple[float, float, float, float]
    blocks: tuple[tuple[int, ...], ...]


# Source: the variants HRViT-b1, b2 and b3 of Gu et al. (2021), in the numbers of the published
# weights: the 240 channels of the third branch of b2 are the ones that give its 32.5 M parameters.
VARIANTS = {
    "b1": Variant(
        channels=(32, 64, 128, 256),
        head_width=32,
        ffn_ratios=(4, 4, 4, 4),
        blocks=((1,), (1, 1), (1, 1, 6), (1, 1, 6), (1, 1, 6, 2), (1, 1, 2, 2)),
    ),
    "b2": Variant(
        channels=(48, 96, 240, 384),
        head_width=24,
        ffn_ratios=(2, 3, 3, 3),
        blocks=((1,), (1, 1), (1, 1, 6), (1, 1, 6), (1, 1, 6, 2), (1, 1, 6, 2)),
    ),
    "b3": Variant(
        channels=(64, 128, 256, 512),
        head_width=32,
        ffn_ratios=(2, 2, 2, 2),
        blocks=((1,), (1, 1), (1, 1, 6), (1, 1, 6), (1, 1, 6, 3), (1, 1, 6, 3)),
    ),
}


class Stem(nn.Module):
    """(B, 3, H, W) -> (B, 64, h, w) at stride 4, in channels_last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, STEM_INNER, 3, stride=2, bias=True)
        self.bn1 = nn.BatchNorm2d(STEM_INNER)
        self.conv2 = conv(STEM_INNER, STEM_WIDTH, 3, stride=2, bias=True)
        self.bn2 = nn.BatchNorm2d(STEM_WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        x = images.contiguous(memory_format=torch.channels_last)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(x)), inplace=True)


def _path(source: int, target: int, inputs: int, outputs: int) -> nn.Module:
    """Branch `source` to the width of branch `target` and, going down, to its size."""
    if source == target:
        return nn.Identity()
    widen = [conv(inputs, outputs, 1, bias=True), nn.BatchNorm2d(outputs)]
    if source > target:
        return nn.Sequential(*widen)
    stride = 2 ** (target - source)
    shrink = conv(inputs, inputs, stride + 1, stride, groups=inputs)
    return nn.Sequential(shrink, nn.BatchNorm2d(inputs), *widen)


class Fusion(nn.Module):
    """Every output is GELU of the sum of all inputs brought to its size and width.

    Maps (B, C_i, h_i, w_i) of widths `inputs` -> the same sizes and widths, and one coarser map
    if `outputs` is longer. A coarser input is repeated and cut at the bottom and right.
    """

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                _path(source, target, width, outputs[target]) for source, width in enumerate(inputs)
            )
            for target in range(len(outputs))
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [self._fuse(target, maps) for target in range(len(self.blocks))]

    def _fuse(self, target: int, maps: list[Tensor]) -> Tensor:
        paths = self.blocks[target]
        assert isinstance(paths, nn.ModuleList)
        total = paths[0](maps[0])
        for source in range(1, len(maps)):
            term = paths[source](maps[source])
            if source > target:
                term = F.interpolate(term, scale_factor=2 ** (source - target), mode="nearest")
                height, width = size_of(total)
                term = term[..., :height, :width]
            total = total + term
        return F.gelu(total)


class PatchEmbed(nn.Module):
    """1x1 to `channels`, depthwise 3x3, norm: (B, C, h, w) -> tokens (B, h, w, channels)."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            conv(inputs, channels, 1, bias=True),
            conv(channels, channels, 3, bias=True, groups=channels),
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(to_tokens(self.proj(x)))


class Stage(nn.Module):
    """Blocks in every branch by itself: maps (B, C_i, h_i, w_i) to maps of the branch widths.

    `rates`: drop-path probability of the first, second, ... block of any branch.
    """

    def __init__(
        self,
        variant: Variant,
        inputs: Sequence[int],
        depths: Sequence[int],
        rates: Sequence[float],
        *,
        recompute: bool,
    ) -> None:
        super().__init__()
        channels = variant.channels[: len(depths)]
        self.recompute = recompute
        self.patch_embed = nn.ModuleList(map(PatchEmbed, inputs, channels))
        self.branches = nn.ModuleList(
            nn.ModuleList(
                Block(
                    width,
                    nominal_head_width=variant.head_width,
                    window=WINDOWS[branch],
                    ffn_ratio=variant.ffn_ratios[branch],
                    drop_path=rates[block],
                )
                for block in range(depths[branch])
            )
            for branch, width in enumerate(channels)
        )
        self.norm = nn.ModuleList(map(nn.LayerNorm, channels))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [self._branch(index, x) for index, x in enumerate(maps)]

    def _branch(self, index: int, x: Tensor) -> Tensor:
        tokens = self.patch_embed[index](x)
        blocks = self.branches[index]
        assert isinstance(blocks, nn.ModuleList)
        for block in blocks:
            tokens = recomputed(block, tokens, recompute=self.recompute and self.training)
        return to_image(self.norm[index](tokens))


class HRViTBody(Trunk):
    """Stem, fusions and stages, which trunk and classifier share.

    `grad_ckpt` cuts between the blocks, `drop_path` is the rate of the last block. Layers start as
    PyTorch has them, except that attention starts at zero.
    """

    strides = (4, 8, 16, 32)
    file_names = {"head.": None}  # the part of a classifier that a trunk drops
    listed_parts = ("features",)

    def __init__(
        self, variant: Variant, *, drop_path: float = 0.0, grad_ckpt: bool = False
    ) -> None:
        super().__init__(grad_ckpt)
        self.channels = variant.channels
        rates = rising_rates(drop_path, tuple(max(stage) for stage in variant.blocks))
        self.stem = Stem()
        self.features = nn.ModuleList()
        before: tuple[int, ...] = (STEM_WIDTH,)
        for stage, stage_rates in zip(variant.blocks, rates, strict=True):
            after = before + variant.channels[len(before) : len(stage)]
            self.features.append(Fusion(before, after))
            self.features.append(Stage(variant, after, stage, stage_rates, recompute=grad_ckpt))
            before = variant.channels[: len(stage)]

    def encode(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> four maps of widths `channels` at strides 4, 8, 16, 32, rounded up."""
        maps = [self.stem(images)]
        for entry in self.features:
            maps = entry(maps)
        return maps


class HRViT(HRViTBody):
    """(B, 3, H, W) -> the four maps of `encode`, of any H, W; linear layers start small."""

    def __init__(
        self, variant: Variant, *, drop_path: float = 0.0, grad_ckpt: bool = False
    ) -> None:
        super().__init__(variant, drop_path=drop_path, grad_ckpt=grad_ckpt)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.encode(images)
