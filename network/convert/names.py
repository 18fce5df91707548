# SPDX-License-Identifier: Apache-2.0
"""Other programs' names of weights in ours, by lists of rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Rule = tuple[str, str | Callable[[re.Match[str]], str]]  # pattern -> replacement, as of re.sub
TRUNK = "backbone."  # the group of the trunk in all networks
STILL_WINDOWS = f"{TRUNK}still_windows"  # entry of a Swin classifier that does not shift small maps


@dataclass(kw_only=True)
class Translated:
    """Weights of a file under our names, the trunk below `backbone.`.

    dropped: names of the file that no number depends on. filled: names of ours that the file
    lacks because there they are always zero.
    """

    layout: str
    state: dict[str, Tensor]
    dropped: list[str] = field(default_factory=list)
    filled: list[str] = field(default_factory=list)

    def zeros(self, name: str, count: int) -> None:
        """A bias that the other program does without."""
        self.state[name] = torch.zeros(count)
        self.filled.append(name)


def counted_on(before: str, after: str = ".") -> Callable[[re.Match[str]], str]:
    """The replacement that counts from 1 what the first group of a pattern counts from 0."""
    return lambda match: f"{before}{int(match[1]) + 1}{after}"


def renamed(state: Mapping[str, Tensor], rules: Sequence[Rule]) -> dict[str, Tensor]:
    """`state` with every rule applied to every name, in order."""
    compiled = [(re.compile(pattern), text) for pattern, text in rules]
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key
        for pattern, text in compiled:
            name = pattern.sub(text, name, count=1)
        # Two names that become one stay apart, so that the second is reported as unexpected.
        result[key if name in result else name] = value
    return result


def joined(state: dict[str, Tensor], parts: Sequence[str], whole: str) -> None:
    """Put layers that stand beside each other into one, first rows first, in place.

    `parts` and `whole` are names of layers, such as `.query`, `.key`, `.value` and `.qkv`. Where
    a part is absent or of another shape nothing is joined, so that they are reported.
    """
    for end in (".weight", ".bias"):
        first = parts[0] + end
        for name in [key for key in state if key.endswith(first)]:
            stem = name.removesuffix(first)
            names = [stem + part + end for part in parts]
            shapes = {state[each].shape[1:] for each in names if each in state}
            if len(shapes) == 1 and all(each in state for each in names):
                state[stem + whole + end] = torch.cat([state.pop(each) for each in names])


def without(state: dict[str, Tensor], patterns: Sequence[str]) -> list[str]:
    """Take all names whose beginning a pattern matches out of `state`, in place; those names."""
    found = [key for key in state if any(re.match(pattern, key) for pattern in patterns)]
    for key in found:
        del state[key]
    return found
