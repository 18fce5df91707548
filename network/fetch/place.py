# SPDX-License-Identifier: Apache-2.0
"""What fetching gives, and how libraries that only some users need are imported."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from runtime.errors import UserError

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """Weights on this machine: `path` is a file, or a folder in hub format.

    name: as the user typed it. revision: the commit of a repository, `sha256:...` of a single
    file, empty for what was a file of this machine all along. licence: of the weights, where the
    library that lists them says so.
    """

    name: str
    path: str
    revision: str = ""
    licence: str = ""

    def line(self) -> str:
        """For the log: what was asked for, which version it is, and where it lies."""
        return f"{self.name}: {self.revision}, {self.path}"


def library(module: str, name: str, extra: str) -> ModuleType:
    """An installed library; UserError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name and error.name.split(".")[0] == module.split(".")[0]:
            raise UserError(f'{name} needs {module}: pip install "{extra}"') from error
        raise UserError(f"{name}: {module} cannot be imported: {error}") from error


def elsewhere(name: str, place: object, command: str) -> str:
    """What to do without a network: where the file would lie, and how to get it there."""
    return (
        f"it was looked for at {place}; with a network, `{command}` brings it there: run it on "
        f"another machine and copy that, or name a local file instead of {name}"
    )
