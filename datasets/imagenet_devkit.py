# SPDX-License-Identifier: Apache-2.0
"""The classes of ImageNet's validation images, which are published beside them.

ROOT/ILSVRC2012_devkit_t12.tar.gz     or unpacked, ROOT/ILSVRC2012_devkit_t12/
    data/ILSVRC2012_validation_ground_truth.txt     a number per image, in the order of names
    data/meta.mat                                   the wnid of each number
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from runtime.errors import UserError

FOLDER = "ILSVRC2012_devkit_t12"
ARCHIVE = f"{FOLDER}.tar.gz"
NUMBERS, META = "data/ILSVRC2012_validation_ground_truth.txt", "data/meta.mat"
IMAGE = "ILSVRC2012_val_{:08d}"


def val_classes(root: Path) -> dict[str, str]:
    """Stem of each validation image -> wnid; empty without the devkit. UserError for a bad one."""
    place = root / FOLDER if (root / FOLDER).is_dir() else root / ARCHIVE
    if not place.exists():
        return {}
    from scipy.io import loadmat  # loads SciPy's file formats, which no other run needs

    try:
        numbers = [int(line) for line in _content(place, NUMBERS).split()]
        synsets = loadmat(io.BytesIO(_content(place, META)), squeeze_me=True)["synsets"]
        wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
        return {IMAGE.format(place): wnids[number] for place, number in enumerate(numbers, 1)}
    except (tarfile.TarError, OSError, EOFError, ValueError, TypeError, LookupError) as error:
        text = " ".join(str(error).split())
        raise UserError(
            f"{place}: not the devkit of ImageNet, or damaged ({text}); download it again"
        ) from error


def _content(place: Path, name: str) -> bytes:
    """A file of the devkit."""
    if place.is_dir():
        return (place / name).read_bytes()
    with tarfile.open(place) as archive:
        found = archive.extractfile(f"{FOLDER}/{name}")
        if found is None:
            raise LookupError(f"{name} is no file")
        return found.read()
