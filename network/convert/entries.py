# SPDX-License-Identifier: Apache-2.0
"""What modules say about entries of files: without effect, or not expected to be there.

A module may list `dead_entries`, published names that no number depends on and that it does not
have; one that ends in a dot stands for all names below it. A trunk may list `fresh_groups`,
beginnings of names that an ImageNet file need not have: all names of a group or none. Its
`after_pretraining(names)` is told what came from the file.
"""

from __future__ import annotations

from collections.abc import Collection

from torch import nn


def dead_names(net: nn.Module) -> tuple[str, ...]:
    """The full names of all entries without effect, some ending in a dot."""
    return tuple(
        f"{name}.{entry}".removeprefix(".")
        for name, module in net.named_modules()
        for entry in getattr(module, "dead_entries", ())
    )


def is_dead(name: str, dead: Collection[str]) -> bool:
    """Whether `name` is one of `dead` or lies below one."""
    return any(name == each or (each[-1] == "." and name.startswith(each)) for each in dead)


def is_fresh(name: str, trunk: nn.Module, found: Collection[str]) -> bool:
    """Whether an ImageNet file that has `found` may lack `name` of `trunk`."""
    groups: tuple[tuple[str, ...], ...] = getattr(trunk, "fresh_groups", ())
    return any(
        name.startswith(group) and not any(each.startswith(group) for each in found)
        for group in groups
    )


def after_pretraining(trunk: nn.Module, found: Collection[str]) -> tuple[str, ...]:
    """Lets `trunk` fill what the file lacked; returns the names it filled."""
    finish = getattr(trunk, "after_pretraining", None)
    return () if finish is None else tuple(finish(found))
