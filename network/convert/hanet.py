# SPDX-License-Identifier: Apache-2.0
"""Key layout of the published HANet files, and what their blocks were built with.

There the stages of the trunk stand beside the heads (`layer0.*` ... `layer4.*`, `aspp.*`,
`final1.*`, `hanet0.*`); here the trunk has a group of its own, `backbone.`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

STAGE = re.compile(r"layer[0-4]\.")
BACKBONE_PREFIX, WRAPPER_PREFIX = "backbone.", "net."
FIRST = re.compile(r"(?:.*\.)?hanet([0-4])\.attention_first\.0\.weight")
STEPS = 128  # pos_rfactor times the rows of a block
AUXILIARY = "dsn"  # the head that is supervised in training and run nowhere else
NO_LIMIT = 1 << 16  # above every reduction: one hidden channel says no more than "at least"

Span = tuple[int, int]  # the values an option may have had, both ends included


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
    """What is known of the options of all HANet blocks of a file or network.

    `reduction` is None if the blocks agree on none, `pos_rfactor` without a height code.
    """

    switches: tuple[int, ...]
    kernel: int
    reduction: Span | None
    layers: int
    injection: int
    sinusoids: bool
    pos_rfactor: Span | None

    def flags(self) -> dict[str, str]:
        """The flags that build such blocks, with their values, by name of the flag."""
        texts = {
            "hanet": " ".join(map(str, self.switches)),
            "hanet_set": f"{self.kernel} {named(self.reduction)} {self.layers}",
            "hanet_pos": f"{self.injection} {int(self.sinusoids)}",
        }
        if self.pos_rfactor is not None:
            texts["pos_rfactor"] = named(self.pos_rfactor)
        return {flag: f"--{flag} {text}" for flag, text in texts.items()}

    def differing(self, other: BlockFacts) -> list[str]:
        """The names of the flags that surely differ."""
        apart = {
            "hanet": self.switches != other.switches,
            "hanet_set": (self.kernel, self.layers) != (other.kernel, other.layers)
            or _apart(self.reduction, other.reduction),
            "hanet_pos": (self.injection, self.sinusoids) != (other.injection, other.sinusoids),
            "pos_rfactor": _apart(self.pos_rfactor, other.pos_rfactor),
        }
        return [flag for flag, differs in apart.items() if differs]


def _apart(one: Span | None, other: Span | None) -> bool:
    """Whether no value lies in both; unknown ones are not apart."""
    if one is None or other is None:
        return False
    return one[1] < other[0] or other[1] < one[0]


def named(span: Span | None) -> str:
    """What people most likely chose: the power of two in a span, else its ends."""
    if span is None:
        return "?"
    low, high = span
    power = 1 << max(low - 1, 0).bit_length()
    if low <= power <= high:
        return str(power)
    return str(low) if low == high else f"{low}..{high}"


def block_facts(
    state: Mapping[str, Tensor], options: Mapping[str, Any] | None = None
) -> BlockFacts | None:
    """What the blocks in a state dict of either layout tell; None without blocks.

    options: those of the network the state is of, where they are known: weights leave open which
    of several reductions gave their widths.
    """
    firsts = {int(m[1]): key for key in state if (m := FIRST.fullmatch(key))}
    if not firsts:
        return None
    prefix = firsts[min(firsts)].removesuffix("attention_first.0.weight")
    three = f"{prefix}attention_third.0.weight" in state
    last = state[f"{prefix}attention_{'third' if three else 'second'}.0.weight"]
    tables = [f"{prefix}pos_emb1d_{nth}.pos_layer.weight" for nth in ("1st", "2nd")]
    injection = next((nth for nth, key in enumerate(tables, 1) if key in state), 0)
    table = state[tables[injection - 1]] if injection else None
    if options:
        reduction, steps = options["hanet_set"][1], options["pos_rfactor"]
        spans: tuple[Span | None, Span] = (reduction, reduction), (steps, steps)
    else:
        sizes = [(state[key].shape[0], state[key].shape[1]) for key in firsts.values()]
        rows = 1 if table is None else table.shape[0] - 1
        spans = _reductions(sizes), (STEPS // (rows + 1) + 1, STEPS // rows)
    return BlockFacts(
        switches=tuple(int(place in firsts) for place in range(5)),
        kernel=last.shape[2],
        reduction=spans[0],
        layers=3 if three else 2,
        injection=injection,
        sinusoids=table is not None and _is_fixed(table),
        pos_rfactor=spans[1] if injection else None,
    )


def _is_fixed(table: Tensor) -> bool:
    """Whether a height code begins as the sinusoids do: 1 + sin 0, 1 + cos 0, ..."""
    return bool((table[0, ::2] == 1).all() and (table[0, 1::2] == 2).all())


def _reductions(sizes: list[tuple[int, int]]) -> Span | None:
    """All r with hidden = ceil(channels / r) in all blocks, below zero for expansion."""
    if all(hidden % channels == 0 and hidden > channels for hidden, channels in sizes):
        factors = {hidden // channels for hidden, channels in sizes}
        factor = factors.pop()
        return None if factors else (-factor, -factor)
    low = max(-(-channels // hidden) for hidden, channels in sizes)
    ends = [-(-channels // (hidden - 1)) - 1 for hidden, channels in sizes if hidden > 1]
    high = min([*ends, NO_LIMIT])
    return (low, high) if low <= high else None


def misfit(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    own_options: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> str:
    """How the blocks of a file differ from those of a network; empty if they do not.

    own_options, options: those of the network and of the file, where they are known.
    """
    here, there = block_facts(own, own_options), block_facts(state, options)
    if there is None:
        return "it has no HANet blocks, this network has; leave --hanet out" if here else ""
    wanted = there.flags()
    if here is None:
        return f"this network has no HANet blocks; the file wants {' '.join(wanted.values())}"
    apart = here.differing(there)
    if not apart:
        return ""
    differ = "differ"
    if _apart(here.reduction, there.reduction):
        differ = f"were trained with reduction {named(there.reduction)}"
    ours = here.flags()
    sides = [" ".join(flags[flag] for flag in apart if flag in flags) for flags in (wanted, ours)]
    return f"its HANet blocks {differ} (file: {sides[0]}, network: {sides[1]})"


def auxiliary_hint(missing: Iterable[str], unexpected: Iterable[str]) -> str:
    """What to do where only one of file and network has the auxiliary head; else empty."""
    if any(official_name(name).startswith(f"{AUXILIARY}.") for name in unexpected):
        return "--aux_loss builds the auxiliary head the file has"
    if any(official_name(name).startswith(f"{AUXILIARY}.") for name in missing):
        return f"the file has no auxiliary head: --allow_partial {AUXILIARY} starts one anew"
    return ""
