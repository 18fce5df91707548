# SPDX-License-Identifier: Apache-2.0
"""Swin whose layers exchange with the layer below while they are computed (HILA).

Source: Leung et al., HILA (2022), section 3.
"""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn

from network.backbones.hila_update import (
    REUSE_FLAG,
    BottomUpUpdate,
    Hila,
    HilaTrunk,
    TopDownUpdate,
    check_heads,
    copy_equal,
    down_steps,
    refuse_reuse,
    up_steps,
)
from network.backbones.mit import Four
from network.backbones.swin import MLP, SHIFT, Layer, Swin, SwinBlock
from network.ops.init import init_transformer
from network.ops.inter_level import TopDownAttention

PARTS = ("top_down.", "bottom_up.", "bottom_sa.", "bottom_norm.")


class HilaSwin(Swin, HilaTrunk):
    """(B, 3, H, W) -> four maps, those of the lower layer of each pair refined by the upper one.

    A layer that exchanges has `bottom_up`, `top_down`, `bottom_sa` (one more block of the layer
    below after each top-down step, with `hila.ratios` of the layer) and `bottom_norm`, used at
    all steps. Refined levels reach the heads without another norm, so theirs do not exist.

    `hila.legacy_shift`: as published, the shift of `bottom_sa` goes on turning from call to call,
    so that the same image gives two answers by turns; by default every call begins unshifted.
    `hila.raw_levels`: as published, levels below a layer without exchange miss their norm too.
    """

    def __init__(
        self,
        width: int,
        depths: Four,
        heads: Four,
        hila: Hila,
        *,
        drop_path: float,
        grad_ckpt: bool = False,
    ) -> None:
        super().__init__(width, depths, heads, drop_path=drop_path, grad_ckpt=grad_ckpt)
        self.hila = hila
        self.turned = dict.fromkeys(hila.stages, False)  # whether bottom_sa begins shifted
        dead = [REUSE_FLAG]
        for stage in hila.stages:
            dead += self._add_pair(stage)
        unnormed = {0, 1, 2} if hila.raw_levels else {stage - 2 for stage in hila.stages}
        for level in sorted(unnormed):
            self.set_submodule(f"norm{level}", nn.Identity())
        self.dead_entries = (*dead, *(f"norm{level}." for level in unnormed))
        self.fresh_groups = (
            *Swin.fresh_groups,
            tuple(f"layers.{stage - 1}.{part}" for stage in hila.stages for part in PARTS),
        )

    def _add_pair(self, stage: int) -> list[str]:
        """The modules of a stage counted from 1; names that a file has and this net does not."""
        index, hila = stage - 1, self.hila
        layer, rate = self.layers[index], self.rates[index][0]
        bottom, top = self.channels[index - 1], self.channels[index]
        heads, ratio = hila.heads[index], hila.ratios[index]
        check_heads(hila, bottom, stage - 1, heads)
        sizes = {"heads": heads, "ratio": ratio}
        layer.bottom_up = BottomUpUpdate(bottom, top, hila, **sizes, drop_path=rate)
        layer.bottom_norm = nn.LayerNorm(bottom)
        init_transformer(layer.bottom_up)
        if not down_steps(self.depths[index], hila.strides[index]):
            return [f"layers.{index}.top_down.", f"layers.{index}.bottom_sa."]
        layer.top_down = TopDownUpdate(bottom, top, hila, **sizes, drop_path=rate)
        layer.bottom_sa = nn.ModuleList(
            [SwinBlock(bottom, self.heads[index - 1], ratio=ratio, drop_path=rate)]
        )
        init_transformer(layer.top_down)
        init_transformer(layer.bottom_sa)
        return []

    def topdown_attentions(self, stage: int) -> list[TopDownAttention]:
        """As in `HilaTrunk`: one for all steps of a layer, none for a layer of one block."""
        found = self.layers[stage - 1].children()
        return [each.topdown_attn for each in found if isinstance(each, TopDownUpdate)]

    def last_norms(self) -> list[nn.Module]:
        """Norms that only maps other than the last depend on."""
        found = []
        for stage in self.hila.stages:
            depth, stride = self.depths[stage - 1], self.hila.strides[stage - 1]
            downs = down_steps(depth, stride)
            last_up = up_steps(depth, stride)[-1]
            if all(step in downs for step in range(last_up)):
                found.append(self.layers[stage - 1].get_submodule("bottom_norm"))
        return found

    def adapt_to_file(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take the width of the MLPs of `bottom_sa` from a file.

        Published runs without HILA pre-training replaced these blocks by copies of the layer
        below, whose MLPs are twice as wide, and saved them like this.
        """
        for stage in self.hila.stages:
            prefix, channels = f"layers.{stage - 1}.bottom_sa.0.mlp", self.channels[stage - 2]
            weight = state.get(f"{prefix}.fc1.weight")
            if weight is None or weight.shape[1:] != (channels,) or weight.shape[0] % channels:
                continue
            if weight.shape != self.get_submodule(f"{prefix}.fc1").weight.shape:
                self.set_submodule(prefix, MLP(channels, weight.shape[0] // channels))
        return state

    def after_pretraining(self, found: Collection[str]) -> list[str]:
        """Copy blocks as `hila.reuse_bottom` wants; `found` are the names that a file gave."""
        if not self.hila.reuse_bottom:
            return []
        refuse_reuse(found, self.fresh_groups[-1])
        copied = []
        for stage in self.hila.stages:
            last = self.layers[stage - 2].get_submodule(f"blocks.{self.depths[stage - 2] - 1}")
            prefix = f"layers.{stage - 1}.bottom_sa.0"
            if down_steps(self.depths[stage - 1], self.hila.strides[stage - 1]):
                copied += copy_equal(last, self.get_submodule(prefix), prefix)
        return copied

    def levels(
        self, index: int, layer: Layer, tokens: Tensor, levels: list[Tensor]
    ) -> list[Tensor]:
        """As `Swin.levels`, the last of `levels` refined if the two layers exchange."""
        stage = index + 1
        if stage not in self.hila.stages:
            return super().levels(index, layer, tokens, levels)
        depth, stride = self.depths[index], self.hila.strides[index]
        ups, downs = up_steps(depth, stride), down_steps(depth, stride)
        top, bottom, turned = tokens, levels[-1], self.turned[stage]
        for position, block in enumerate(layer.blocks):
            if position in ups:
                top = self.run(layer.get_submodule("bottom_up"), bottom, top)
            top = self.run(block, top)
            if position in downs:
                bottom = self.run(layer.get_submodule("top_down"), bottom, top)
                bottom = self.run(layer.get_submodule("bottom_sa.0"), bottom, SHIFT * turned)
                turned = not turned
            else:
                bottom = layer.get_submodule("bottom_norm")(bottom)
        if self.hila.legacy_shift:
            self.turned[stage] = turned
        return [*levels[:-1], bottom, top]
