# SPDX-License-Identifier: Apache-2.0
"""Published entries of files that no number of a network depends on, as its parts declare them."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from network.ops.part import Part


def dead_names(net: nn.Module) -> tuple[str, ...]:
    """The full names of the `dead_entries` of all parts of `net`, some ending in a dot."""
    return tuple(
        f"{name}.{entry}".removeprefix(".")
        for name, part in net.named_modules()
        if isinstance(part, Part)
        for entry in part.dead_entries
    )


def is_dead(name: str, dead: Collection[str]) -> bool:
    """Whether `name` is one of `dead` or lies below one."""
    return any(name == each or (each[-1] == "." and name.startswith(each)) for each in dead)
