# SPDX-License-Identifier: Apache-2.0
"""Which stages of a HILA network exchange, read off the names of its weights."""

from __future__ import annotations

import re
from collections.abc import Iterable

PAIR = re.compile(r"(?:^|\.)(?:topdown|bottomup|prevnorm)\.\d(\d)\.")  # on MiT, counted from 1
LAYER = re.compile(r"(?:^|\.)layers\.(\d)\.(?:top_down|bottom_up|bottom_norm)\.")  # on Swin, from 0


def stage_set(names: Iterable[str]) -> tuple[int, ...]:
    """The upper stages of all pairs that exchange, counted from 1; none for other networks."""
    names = list(names)
    pairs = {int(match[1]) for name in names if (match := PAIR.search(name))}
    layers = {int(match[1]) + 1 for name in names if (match := LAYER.search(name))}
    return tuple(sorted(pairs | layers))


def _title(stages: tuple[int, ...]) -> str:
    return f"S({','.join(map(str, stages))})" if stages else "no inter-level attention"


def misfit(title: str, own: Iterable[str], file: Iterable[str], trains: bool = True) -> str:
    """One line for a file of another stage set than that of the network, else nothing.

    `trains`: the weights are for training, which may also start from another stage set.
    """
    ours, theirs = stage_set(own), stage_set(file)
    if ours == theirs:
        return ""
    way = "take its plain form as --arch"
    way += ", or --pretrained to start from the file" if trains else ""
    if ours and theirs:
        way = f"--set MODEL.hila_stages={','.join(map(str, theirs))} builds the one of the file"
    elif theirs:
        way = "--arch hila... has networks with it"
    return f"{title} holds {_title(theirs)}, the network has {_title(ours)}; {way}"
