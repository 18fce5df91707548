# SPDX-License-Identifier: Apache-2.0
"""File names made from data: names of images, classes and class sets come from anywhere.

    inside(folder, "aachen/x")                      # folder/aachen/x, never outside of `folder`
    output("aachen/x", after="_prediction.png")     # aachen/x_prediction.png, at most 255 bytes
    part("../../x")                                 # ..%2F..%2Fx, one part of a path

Every file with such a name is named by these functions.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path, PurePosixPath

NAME_BYTES = 255  # of one part of a path on the usual file systems
HASH_LETTERS = 12
SPECIAL = re.compile(r"[\x00-\x1f\x7f/\\]")  # control characters, and what separates folders


class OutsideError(ValueError):
    """A name that would lead out of its folder."""


def part(text: str, limit: int = NAME_BYTES) -> str:
    """`text` as one part of a path: separators and control characters as `%2F`, see `fitted`."""
    text = SPECIAL.sub(lambda match: f"%{ord(match[0]):02X}", text)
    if text.strip(".") == "" and len(text) < 3:  # nothing, this folder or the one above
        text = text.replace(".", "%2E") or "%"
    return fitted(text, limit=limit)


def relative(name: str) -> PurePosixPath:
    """`name` as a path that stays inside its folder, sub-folders kept.

    A leading slash is dropped. Raises OutsideError for `..`, which no reader puts into a name.
    """
    parts = [text for text in name.split("/") if text not in ("", ".")]
    if not parts or ".." in parts:
        raise OutsideError(f"image name {name!r} would leave the output directory")
    return PurePosixPath(*map(part, parts))


def inside(folder: Path, name: str) -> Path:
    """The place of `name` in `folder`; OutsideError as in `relative`."""
    return folder / relative(name)


def output(name: str, *, before: str = "", after: str = "") -> PurePosixPath:
    """The relative path of a file about the image `name`; too long names are `fitted`."""
    path = relative(name)
    return path.parent / fitted(path.name, before=before, after=after)


def fitted(text: str, *, before: str = "", after: str = "", limit: int = NAME_BYTES) -> str:
    """`before`, `text` and `after` in one name; of more than `limit` bytes, `text` is cut.

    A hash of the whole text stands in for what was cut off, so different texts keep different
    names, the same ones every time.
    """
    whole = f"{before}{text}{after}"
    if len(os.fsencode(whole)) <= limit:
        return whole
    mark = "~" + hashlib.sha256(os.fsencode(text)).hexdigest()[:HASH_LETTERS]
    left = limit - len(os.fsencode(before + mark + after))
    kept = ""
    for letter in text:
        left -= len(os.fsencode(letter))
        if left < 0:
            break
        kept += letter
    return f"{before}{kept}{mark}{after}"


def is_cut(name: str, file: str | PurePosixPath) -> bool:
    """Whether `file`, made by `output` for the image `name`, holds only a part of its name."""
    return relative(name).name not in PurePosixPath(file).name


def printable(text: str) -> str:
    """`text` for places that take only Unicode: bytes that are not Unicode become `%E9`."""
    return "".join(
        f"%{ord(letter) - 0xDC00:02X}" if "\udc80" <= letter <= "\udcff" else letter
        for letter in text
    )
