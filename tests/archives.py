# SPDX-License-Identifier: Apache-2.0
"""Archives packed as those of data sets are."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


def write_zip(
    path: Path, folders: Mapping[str, Path], method: int = DEFLATED, extra: str = "README"
) -> Path:
    """A zip of whole folders under their names in it, entries of folders and a text file too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(extra, "read me")
        for name, folder in folders.items():
            for file in sorted(folder.rglob("*")):
                archive.write(file, f"{name}/{file.relative_to(folder)}".lstrip("/"))
    return path


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    """A tar of files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path
