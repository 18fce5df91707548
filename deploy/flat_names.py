# SPDX-License-Identifier: Apache-2.0
"""Whether the packages of this project are the ones that Python would import.

They have plain names, and other packages have the same: Hugging Face's `datasets`, a `config.py` of
one's own. Standard library alone, because nothing else can be trusted before this is known.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = (
    "assembly", "datasets", "engine", "loss", "metrics", "network", "reports", "runtime",
    "settings", "transforms",
)  # fmt: skip


def check_names() -> None:
    """Raise ImportError, one line that says what to do, if a foreign package has one of NAMES."""
    for name in NAMES:
        loaded = sys.modules.get(name)
        if loaded is not None:
            place = _place(getattr(loaded, "__file__", None), getattr(loaded, "__path__", None))
            if not _is_ours(place):
                raise ImportError(
                    f"{place} has already been imported as `{name}`, and this project has a "
                    "package of that name too: use the two in separate processes, or export the "
                    "network (python -m deploy.export), which then needs nothing of this project"
                )
            continue
        found = importlib.util.find_spec(name)
        place = None
        if found is not None:
            place = _place(found.origin, found.submodule_search_locations)
        if not _is_ours(place):
            raise ImportError(
                f"`import {name}` would take {place}, not the package of this project: put its "
                f"folder first, sys.path.insert(0, {str(ROOT)!r})"
            )


def _place(file: str | None, folders: object) -> Path | None:
    """Where a package lies: its file, or the first of its folders if it has none."""
    if file:
        return Path(file)
    first = next(iter(folders), None) if hasattr(folders, "__iter__") else None
    return Path(first) if first else None


def _is_ours(place: Path | None) -> bool:
    return place is not None and place.resolve().is_relative_to(ROOT)
