# SPDX-License-Identifier: Apache-2.0
"""Mix Transformer (MiT), the trunk of SegFormer: four stages of blocks with cheap attention.

Tokens lie as maps (B, H, W, C) throughout, so that linear layers, layer norms and convolutions
(channels_last) all read them without a copy.

Source: Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with
Transformers" (2021), section 3.1 and table 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.backbones.trunk import Trunk
from network.ops.drop_path import DropPath, rising_rates
from network.ops.init import init_transformer
from network.ops.mix_ffn import MixFFN
from network.ops.resize import surely

HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
BLOCK_EPS, PLAIN_EPS = 1e-6, 1e-5  # of block and stage norms; of embedding and reduction norms
EPS_ENTRY = "norm_eps"  # of weights that were trained with others: these two
DROP_PATH = 0.1

Four = tuple[int, int, int, int]


@dataclass(frozen=True)
class Size:
    """Channels and depths of the four stages, and the width of the published head."""

    channels: Four
    depths: Four
    head_width: int


WIDE: Four = (64, 128, 320, 512)
SIZES = {
    "B0": Size((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "B1": Size(WIDE, (2, 2, 2, 2), 256),
    "B2": Size(WIDE, (3, 4, 6, 3), 768),
    "B3": Size(WIDE, (3, 4, 18, 3), 768),
    "B4": Size(WIDE, (3, 8, 27, 3), 768),
    "B5": Size(WIDE, (3, 6, 40, 3), 768),
}


class PatchEmbed(nn.Module):
    """A map (B, C, H, W) -> tokens (B, ceil(H / stride), ceil(W / stride), D), normed."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(outputs, eps=PLAIN_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Overlapping patches, one token each."""
        tokens: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return tokens


class ReducedAttention(nn.Module):
    """Self-attention of tokens (B, H, W, C) to a copy of the map `reduction` times smaller.

    Rows and columns that do not fill a patch of the copy are left out of it, as published; a map
    that is smaller than one patch, where nothing would be left, is filled up with zeros.

    Source: "SegFormer", equations 1 and 2.
    """

    def __init__(self, channels: int, heads: int, reduction: int, norm_eps: float) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        if reduction > 1:
            self.sr = nn.Conv2d(channels, channels, reduction, reduction)
            self.norm = nn.LayerNorm(channels, eps=norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        batch, height, width, channels = x.shape
        shape = (batch, -1, self.heads, channels // self.heads)
        query = self.q(x).view(shape).transpose(1, 2)
        source = x
        if self.reduction > 1:
            filled = x
            if not (surely(width >= self.reduction) and surely(height >= self.reduction)):
                right, below = (max(self.reduction - side, 0) for side in (width, height))
                filled = F.pad(x, (0, 0, 0, right, 0, below))
            source = self.norm(self.sr(filled.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        key, value = self.kv(source).chunk(2, dim=-1)
        mixed = F.scaled_dot_product_attention(
            query,
            key.reshape(shape).transpose(1, 2),
            value.reshape(shape).transpose(1, 2),
        )
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, height, width, channels))
        return out


class Block(nn.Module):
    """Attention and feed-forward part, both residual, on tokens (B, H, W, C)."""

    def __init__(
        self,
        channels: int,
        heads: int,
        reduction: int,
        *,
        ratio: int = 4,
        drop_path: float = 0.0,
        eps: float = BLOCK_EPS,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=eps)
        self.attn = ReducedAttention(channels, heads, reduction, PLAIN_EPS)
        self.norm2 = nn.LayerNorm(channels, eps=eps)
        self.mlp = MixFFN(channels, ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


def as_map(tokens: Tensor) -> Tensor:
    """Tokens (B, H, W, C) as a map (B, C, H, W), without a copy."""
    return tokens.permute(0, 3, 1, 2)


class MiT(Trunk):
    """(B, 3, H, W) -> four maps at strides 4, 8, 16, 32, sizes rounded up.

    H and W are at least one patch of the first stage. `grad_ckpt` cuts between the blocks.
    """

    strides = (4, 8, 16, 32)
    file_names = {"head.": None}
    smallest = 4

    def __init__(
        self,
        channels: Four,
        depths: Four,
        *,
        drop_path: float = DROP_PATH,
        grad_ckpt: bool = False,
    ) -> None:
        super().__init__(grad_ckpt)
        self.channels, self.depths = channels, depths
        rates = rising_rates(drop_path, depths)
        inputs = 3
        for index, width in enumerate(channels):
            kernel, stride = (7, 4) if index == 0 else (3, 2)
            blocks = nn.ModuleList(
                Block(width, HEADS[index], REDUCTIONS[index], drop_path=rate)
                for rate in rates[index]
            )
            self.add_module(f"patch_embed{index + 1}", PatchEmbed(inputs, width, kernel, stride))
            self.add_module(f"block{index + 1}", blocks)
            self.add_module(f"norm{index + 1}", nn.LayerNorm(width, eps=BLOCK_EPS))
            inputs = width
        init_transformer(self)

    def adapt_to_file(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Takes the two epsilons that an entry `norm_eps` of the file names, else the published.

        Other programs train the same weights with others; the entry goes into checkpoints, so
        that a network stays what its weights were trained for.
        """
        found = state.get(EPS_ENTRY)
        if not state or (found is not None and found.shape != (2,)):
            return state
        if found is not None:
            self.register_buffer(EPS_ENTRY, torch.zeros(2).to(next(self.parameters()).device))
        elif EPS_ENTRY in self._buffers:
            delattr(self, EPS_ENTRY)
        pair = (BLOCK_EPS, PLAIN_EPS) if found is None else found.tolist()
        block, plain = (float(f"{value:.3g}") for value in pair)  # as written, not as float32
        for stage in (1, 2, 3, 4):
            for name, module in self.blocks(stage).named_modules():
                if isinstance(module, nn.LayerNorm):
                    module.eps = plain if name.endswith(".attn.norm") else block
            for name, eps in ((f"norm{stage}", block), (f"patch_embed{stage}.norm", plain)):
                norm = self.get_submodule(name)
                assert isinstance(norm, nn.LayerNorm)
                norm.eps = eps
        return state

    def forward(self, images: Tensor) -> list[Tensor]:
        """The four maps; UserError for an image smaller than one patch."""
        self.check_size(images)
        maps: list[Tensor] = []
        for stage in (1, 2, 3, 4):
            embedded = self.get_submodule(f"patch_embed{stage}")(maps[-1] if maps else images)
            maps = self.stage(stage, embedded, maps)
        return maps

    def stage(self, stage: int, tokens: Tensor, maps: list[Tensor]) -> list[Tensor]:
        """`maps` of the stages below, with that of `stage` from its embedded `tokens`."""
        for block in self.blocks(stage):
            tokens = self.run(block, tokens)
        return [*maps, as_map(self.get_submodule(f"norm{stage}")(tokens))]

    def blocks(self, stage: int) -> nn.ModuleList:
        """The blocks of a stage, counted from 1."""
        blocks = self.get_submodule(f"block{stage}")
        assert isinstance(blocks, nn.ModuleList)
        return blocks
