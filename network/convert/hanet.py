# SPDX-License-Identifier: Apache-2.0
"""Key layout of the published HANet files, and what their blocks were built with.

There the stages of the trunk stand beside the heads (`layer0.*` ... `layer4.*`, `aspp.*`,
`final1.*`, `hanet0.*`); here the trunk has a group of its own, `backbone.`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

STAGE = re.compile(r"layer[0-4]\.")
BACKBONE_PREFIX, WRAPPER_PREFIX = "backbone.", "net."
FIRST = re.compile(r"(?:.*\.)?hanet([0-4])\.attention_first\.0\.weight")
STEPS = 128  # pos_rfactor times the rows of a block


def is_hanet(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the published names."""
    return "final1.0.weight" in state and any(STAGE.match(key) for key in state)


def our_name(key: str) -> str:
    """A published key in our spelling, without the group of a multi-scale wrapper."""
    return BACKBONE_PREFIX + key if STAGE.match(key) else key


def official_name(key: str) -> str:
    """A key of ours in the published spelling."""
    name = key.removeprefix(WRAPPER_PREFIX)
    inner = name.removeprefix(BACKBONE_PREFIX)
    return inner if STAGE.match(inner) else name


@dataclass(frozen=True, kw_only=True)
class BlockFacts:
    """What the weights of all HANet blocks of a file or network tell of their options.

    `reduction` is None if the blocks agree on none.
    """

    switches: tuple[int, ...]
    kernel: int
    reduction: int | None
    layers: int
    injection: int
    sinusoids: bool
    pos_rfactor: int | None

    def flags(self) -> str:
        """The flags that build such blocks."""
        switches = " ".join(map(str, self.switches))
        text = f"--hanet {switches} --hanet_set {self.kernel} {self.reduction} {self.layers}"
        rows = f" --pos_rfactor {self.pos_rfactor}" if self.pos_rfactor else ""
        return f"{text} --hanet_pos {self.injection} {int(self.sinusoids)}{rows}"


def block_facts(state: Mapping[str, Tensor]) -> BlockFacts | None:
    """The options of the blocks in a state dict of either layout; None without blocks."""
    firsts = {int(m[1]): key for key in state if (m := FIRST.fullmatch(key))}
    if not firsts:
        return None
    prefix = firsts[min(firsts)].removesuffix("attention_first.0.weight")
    three = f"{prefix}attention_third.0.weight" in state
    last = state[f"{prefix}attention_{'third' if three else 'second'}.0.weight"]
    tables = [f"{prefix}pos_emb1d_{nth}.pos_layer.weight" for nth in ("1st", "2nd")]
    injection = next((nth for nth, key in enumerate(tables, 1) if key in state), 0)
    table = state[tables[injection - 1]] if injection else None
    rows = None if table is None else table.shape[0] - 1
    sizes = [(state[key].shape[0], state[key].shape[1]) for key in firsts.values()]
    return BlockFacts(
        switches=tuple(int(place in firsts) for place in range(5)),
        kernel=last.shape[2],
        reduction=_reduction(sizes),
        layers=3 if three else 2,
        injection=injection,
        sinusoids=table is not None and _is_fixed(table),
        pos_rfactor=STEPS // rows if rows else None,
    )


def _is_fixed(table: Tensor) -> bool:
    """Whether a height code begins as the sinusoids do: 1 + sin 0, 1 + cos 0, ..."""
    return bool((table[0, ::2] == 1).all() and (table[0, 1::2] == 2).all())


def _reduction(sizes: list[tuple[int, int]]) -> int | None:
    """The smallest r with hidden = ceil(channels / r) in all blocks, below zero for expansion."""
    if all(hidden % channels == 0 and hidden > channels for hidden, channels in sizes):
        factors = {hidden // channels for hidden, channels in sizes}
        return -factors.pop() if len(factors) == 1 else None
    for r in range(1, max(channels for _, channels in sizes) + 1):
        if all(-(-channels // r) == hidden for hidden, channels in sizes):
            return r
    return None


def misfit(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """How the blocks of a file differ from those of a network; empty if they do not."""
    here, there = block_facts(own), block_facts(state)
    if here == there:
        return ""
    if there is None:
        return "it has no HANet blocks, this network has; leave --hanet out"
    wrong = "has no HANet blocks" if here is None else f"has --hanet_set {_triple(here)}"
    return (
        f"its HANet blocks were trained with reduction {there.reduction} "
        f"(--hanet_set {_triple(there)}), this network {wrong}; the file wants {there.flags()}"
    )


def _triple(facts: BlockFacts) -> str:
    return f"{facts.kernel} {facts.reduction} {facts.layers}"
