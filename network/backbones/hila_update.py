# SPDX-License-Identifier: Apache-2.0
"""HILA for any host: the options, when its updates happen, and the two update blocks.

Source: Leung et al., HILA (2022), sections 3.1 to 3.3.
"""

from __future__ import annotations

import abc
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from network.backbones.trunk import Trunk
from network.ops.drop_path import DropPath
from network.ops.inter_level import BottomUpAttention, TopDownAttention
from network.ops.mix_ffn import MixFFN
from runtime.errors import UserError

Four = tuple[int, int, int, int]
REUSE_FLAG = "reuse_bottomsa_pretraining_flag"  # an entry of published files without effect


@dataclass(frozen=True, kw_only=True)
class Hila:
    """Which stages exchange with the one below them, and how.

    stages: top stages, each of 2..4. strides, heads and ratios are those of stages 1..4; which
    stage of a pair counts is up to the host. With share_... one module serves all steps of a
    stage; without, each step has its own. reuse_bottom: after an ImageNet file without HILA is
    loaded, the blocks after top-down steps become copies of the last block of their stage.
    legacy_shift and raw_levels: of the host Swin, see there.
    """

    stages: tuple[int, ...]
    strides: Four = (1, 1, 1, 1)
    heads: Four = (1, 1, 1, 1)
    ratios: Four = (4, 4, 4, 4)
    patch: int = 4
    share_topdown: bool = True
    share_bottomup: bool = True
    share_bottom: bool = True
    info_weights: tuple[float, float] = (0.5, 0.5)
    euclidean: bool = False
    reuse_bottom: bool = False
    legacy_shift: bool = False
    raw_levels: bool = False


class HilaTrunk(Trunk, abc.ABC):
    """A trunk of which some stages exchange, as `hila` says."""

    hila: Hila

    @abc.abstractmethod
    def topdown_attentions(self, stage: int) -> list[TopDownAttention]:
        """What refines the stage below the top `stage`, in the order of use; maybe nothing."""

    @abc.abstractmethod
    def last_norms(self) -> list[nn.Module]:
        """Norms that only maps other than the last depend on."""


def up_steps(depth: int, stride: int) -> list[int]:
    """Blocks of a stage of `depth` before which the top level reads the bottom level."""
    return [block for block in range(depth) if block % stride == 0]


def down_steps(depth: int, stride: int) -> list[int]:
    """Blocks after which the bottom level reads the top level; never after the last."""
    return [block for block in range(depth - 1) if (block - 1) % stride == 0]


def check_heads(hila: Hila, channels: int, stage: int, heads: int) -> None:
    """UserError unless the `channels` of the bottom `stage` divide into `heads`."""
    if channels % heads:
        text = ",".join(map(str, hila.heads))
        raise UserError(
            f"hila_heads={text}: {channels} channels of stage {stage} do not divide into {heads}"
        )


def copy_equal(source: nn.Module, target: nn.Module, prefix: str) -> list[str]:
    """Copy all weights of one shape; returns the names in `target`, below `prefix`."""
    weights, copied = source.state_dict(), []
    for name, value in target.state_dict().items():
        if name in weights and weights[name].shape == value.shape:
            value.copy_(weights[name])
            copied.append(f"{prefix}.{name}")
    return copied


def refuse_reuse(found: Collection[str], parts: tuple[str, ...]) -> None:
    """UserError if a file that shall lack the blocks below `parts` has some."""
    if any(name.startswith(parts) for name in found):
        raise UserError(
            "hila_reuse_bottom: the file of --pretrained holds these blocks already; leave it out"
        )


class _Update(nn.Module):
    """What both directions do with what a level has read from the other."""

    info_weights: tuple[float, float]
    drop_path: nn.Module

    def _joined(self, own: Tensor, read: Tensor, norm: nn.Module, mlp: nn.Module) -> Tensor:
        """Tokens (B, H, W, C) of a level, `read` added and mixed by `mlp` of the `norm`."""
        kept, new = self.info_weights
        own = own + self.drop_path(read)
        return torch.add(kept * own, self.drop_path(mlp(norm(own))), alpha=new)


class TopDownUpdate(_Update):
    """The bottom level reads the top level, then mixes within tokens."""

    def __init__(
        self,
        bottom_channels: int,
        top_channels: int,
        hila: Hila,
        *,
        heads: int,
        ratio: int,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.info_weights = hila.info_weights
        self.norm1 = nn.LayerNorm(bottom_channels)
        self.norm2 = nn.LayerNorm(top_channels)
        self.topdown_attn = TopDownAttention(
            bottom_channels, top_channels, heads=heads, patch=hila.patch, euclidean=hila.euclidean
        )
        self.norm3 = nn.LayerNorm(bottom_channels)
        self.bottom_mlp = MixFFN(bottom_channels, ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, bottom: Tensor, top: Tensor) -> Tensor:
        """Bottom (B, H, W, C_b) and top (B, h, w, C_t) -> the new bottom."""
        read = self.topdown_attn(self.norm1(bottom), self.norm2(top))
        return self._joined(bottom, read, self.norm3, self.bottom_mlp)


class BottomUpUpdate(_Update):
    """The top level reads the bottom level, then mixes within tokens."""

    def __init__(
        self,
        bottom_channels: int,
        top_channels: int,
        hila: Hila,
        *,
        heads: int,
        ratio: int,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.info_weights = hila.info_weights
        self.norm4 = nn.LayerNorm(top_channels)
        self.norm5 = nn.LayerNorm(bottom_channels)
        self.bottomup_attn = BottomUpAttention(
            top_channels, bottom_channels, heads=heads, patch=hila.patch, euclidean=hila.euclidean
        )
        self.norm6 = nn.LayerNorm(top_channels)
        self.top_mlp = MixFFN(top_channels, ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, bottom: Tensor, top: Tensor) -> Tensor:
        """Bottom (B, H, W, C_b) and top (B, h, w, C_t) -> the new top."""
        read = self.bottomup_attn(self.norm4(top), self.norm5(bottom))
        return self._joined(top, read, self.norm6, self.top_mlp)
