# SPDX-License-Identifier: Apache-2.0
"""The folder that a program makes: a new one, or none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import UserError
from runtime.files import partial_name, whole_folder


def refuse_existing(out: Path) -> None:
    """Raise UserError if something of that name is there: nothing is written over."""
    if out.exists() or out.is_symlink():
        raise UserError(f"--out {out} exists; name a folder that does not, or remove it")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `out` in the end; UserError if it cannot be written."""
    partial = partial_name(out)
    try:
        with whole_folder(out) as folder:
            yield folder
            refuse_existing(out)
    except OSError as error:  # a full disk has no file name where a stream was written
        place = os.fsdecode(error.filename or partial)
        if str(partial) in place or Path(place) in partial.parents:
            raise UserError(f"--out {out} cannot be written: {error.strerror or error}") from error
        raise
