# SPDX-License-Identifier: Apache-2.0
"""The classes of a checkpoint against those of a data set: the same names in the same order?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from datasets.spec import normal

MAX_SHOWN = 4  # differences that a line names


def class_difference(saved: Sequence[str], own: Sequence[str]) -> str:
    """What differs between the classes of a file and of a set, on one line; empty if nothing does.

    Names count as equal whatever their case and punctuation. Of a set with another number of
    classes only the numbers are compared.
    """
    if len(saved) != len(own):
        return f"{len(saved)} classes in the file, {len(own)} in this set"
    pairs = list(zip(map(normal, saved), map(normal, own), strict=True))
    wrong = [number for number, (theirs, ours) in enumerate(pairs) if theirs != ours]
    if not wrong:
        return ""
    parts = [f"class {n} is {saved[n]} in the file, {own[n]} in this set" for n in wrong]
    more = len(parts) - MAX_SHOWN
    shown = [*parts[:MAX_SHOWN], *([f"{more} more"] if more > 0 else [])]
    same = sorted(theirs for theirs, _ in pairs) == sorted(ours for _, ours in pairs)
    order = "the same names in another order: " if same else ""
    return order + "; ".join(shown)


class ClassFile(Protocol):
    """A checkpoint with the entries that this program wrote, as `assembly.snapshot.Snapshot`."""

    path: str
    facts: dict[str, Any]


def note_classes(file: ClassFile | None, own: Sequence[str], log: Callable[[str], None]) -> None:
    """One line when a file was trained for classes of other names or another order.

    This is not an error: names of a set may have been corrected, and weights may be a start for
    other classes. Another number of classes is refused when the weights are loaded.
    """
    saved = file.facts.get("class_names", ()) if file else ()
    difference = class_difference(saved, own) if len(saved) == len(own) else ""
    if file and difference:
        log(
            f"warning: {file.path} was trained for other classes: {difference}; they are counted "
            "by number"
        )
