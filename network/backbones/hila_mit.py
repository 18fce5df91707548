# SPDX-License-Identifier: Apache-2.0
"""MiT whose stages exchange with the stage below while they are computed (HILA).

Source: Leung et al., HILA (2022), section 3 and figure 2.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

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
from network.backbones.mit import DROP_PATH, HEADS, PLAIN_EPS, REDUCTIONS, Block, Four, MiT, as_map
from network.ops.init import init_transformer
from network.ops.inter_level import TopDownAttention

PARTS = ("topdown.", "bottomup.", "prevblock.", "prevnorm.")


def _modules(make: Callable[[], nn.Module], steps: int, shared: bool) -> nn.ModuleList:
    """A module for each step, or one for all of them; none without a step."""
    return nn.ModuleList(make() for _ in range(min(steps, 1) if shared else steps))


class HilaMiT(MiT, HilaTrunk):
    """(B, 3, H, W) -> four maps, those of the lower stage of each pair refined by the upper one.

    The modules of a pair lie under its tag, such as `23`: `topdown`, `bottomup`, `prevblock` (one
    more self-attention block of the bottom stage after each top-down step) and `prevnorm`.

    `file_depths` are those of the ImageNet file for a trunk that is meant to take the first
    blocks of a deeper one; `fresh_groups` lists what such a file need not have.
    """

    fresh_groups = (PARTS,)

    def __init__(
        self,
        channels: Four,
        depths: Four,
        hila: Hila,
        *,
        drop_path: float = DROP_PATH,
        grad_ckpt: bool = False,
        file_depths: Four | None = None,
    ) -> None:
        super().__init__(channels, depths, drop_path=drop_path, grad_ckpt=grad_ckpt)
        spare: dict[str, str | None] = {
            f"block{stage}.{index}.": None
            for stage, (own, there) in enumerate(zip(depths, file_depths or depths, strict=True), 1)
            for index in range(own, there)
        }
        self.file_names = {**self.file_names, **spare}
        self.hila = hila
        self.topdown, self.bottomup = nn.ModuleDict(), nn.ModuleDict()
        self.prevblock, self.prevnorm = nn.ModuleDict(), nn.ModuleDict()
        for stage in hila.stages:
            self._add_pair(stage)
        for part in (self.topdown, self.bottomup, self.prevblock, self.prevnorm):
            init_transformer(part)
        self.dead_entries = (REUSE_FLAG, *self._unused_parts())

    def _unused_parts(self) -> list[str]:
        """Names that published files have for pairs without a top-down step, and this net lacks."""
        found = []
        for part in ("topdown", "prevblock"):
            steps = self.get_submodule(part).named_children()
            found += [f"{part}.{tag}." for tag, modules in steps if not any(modules.children())]
        return found

    def _add_pair(self, stage: int) -> None:
        hila, tag, depth = self.hila, f"{stage - 1}{stage}", self.depths[stage - 1]
        bottom, top = self.channels[stage - 2], self.channels[stage - 1]
        heads, ratio = hila.heads[stage - 2], hila.ratios[stage - 1]
        check_heads(hila, bottom, stage - 1, heads)
        ups = len(up_steps(depth, hila.strides[stage - 1]))
        downs = len(down_steps(depth, hila.strides[stage - 1]))
        self.topdown[tag] = _modules(
            lambda: TopDownUpdate(bottom, top, hila, heads=heads, ratio=ratio),
            downs,
            hila.share_topdown,
        )
        self.bottomup[tag] = _modules(
            lambda: BottomUpUpdate(bottom, top, hila, heads=heads, ratio=ratio),
            ups,
            hila.share_bottomup,
        )
        self.prevblock[tag] = _modules(
            lambda: Block(bottom, HEADS[stage - 2], REDUCTIONS[stage - 2], eps=PLAIN_EPS),
            downs,
            hila.share_bottom,
        )
        self.prevnorm[tag] = nn.LayerNorm(bottom, eps=PLAIN_EPS)

    def stage(self, stage: int, tokens: Tensor, maps: list[Tensor]) -> list[Tensor]:
        """`maps` with that of `stage`, and with a refined last one if the two exchange."""
        if stage not in self.hila.stages:
            return super().stage(stage, tokens, maps)
        depth, stride = self.depths[stage - 1], self.hila.strides[stage - 1]
        ups, downs = up_steps(depth, stride), down_steps(depth, stride)
        top, bottom, tag = tokens, maps[-1].permute(0, 2, 3, 1), f"{stage - 1}{stage}"
        for index, block in enumerate(self.blocks(stage)):
            if index in ups:
                update = self._module(self.bottomup, tag, ups.index(index))
                top = self.run(update, bottom, top)
            top = self.run(block, top)
            if index in downs:
                step = downs.index(index)
                bottom = self.run(self._module(self.topdown, tag, step), bottom, top)
                bottom = self.run(self._module(self.prevblock, tag, step), bottom)
        bottom = self.prevnorm[tag](bottom)
        top = self.get_submodule(f"norm{stage}")(top)
        return [*maps[:-1], as_map(bottom), as_map(top)]

    def topdown_attentions(self, stage: int) -> list[TopDownAttention]:
        """As in `HilaTrunk`: one for all steps, or one for each."""
        found = self.topdown[f"{stage - 1}{stage}"].children()
        return [each.topdown_attn for each in found if isinstance(each, TopDownUpdate)]

    def last_norms(self) -> list[nn.Module]:
        """Norms that only maps other than the last depend on."""
        return list(self.prevnorm.children())

    def after_pretraining(self, found: Collection[str]) -> list[str]:
        """Copy blocks as `hila.reuse_bottom` wants; `found` are the names that a file gave."""
        if not self.hila.reuse_bottom:
            return []
        refuse_reuse(found, PARTS)
        copied = []
        for stage in self.hila.stages:
            tag = f"{stage - 1}{stage}"
            for name, block in self.prevblock[tag].named_children():
                last = self.blocks(stage - 1)[-1]
                copied += copy_equal(last, block, f"prevblock.{tag}.{name}")
        return copied

    @staticmethod
    def _module(parts: nn.ModuleDict, tag: str, step: int) -> nn.Module:
        modules = parts[tag]
        assert isinstance(modules, nn.ModuleList)
        return modules[step if len(modules) > 1 else 0]
