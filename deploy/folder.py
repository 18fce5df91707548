# SPDX-License-Identifier: Apache-2.0
"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import UserError


def refuse_existing(out: Path) -> None:
    """Raise UserError if something of that name is there: nothing is written over."""
    if out.exists() or out.is_symlink():
        raise UserError(f"--out {out} exists; name a folder that does not, or remove it")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out` to write into, which becomes `out` in the end.

    It is removed if anything fails; UserError where it cannot be made.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name[:64]}-", dir=out.parent))
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error.strerror}") from error
    try:
        yield folder
        umask = os.umask(0)
        os.umask(umask)
        folder.chmod(0o777 & ~umask)
        refuse_existing(out)
        os.rename(folder, out)
    except OSError as error:  # a full disk has no file name where a stream was written
        shutil.rmtree(folder, ignore_errors=True)
        if error.filename is None or str(folder) in os.fsdecode(error.filename):
            raise UserError(f"--out {out} cannot be written: {error.strerror or error}") from error
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
