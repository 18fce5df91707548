# SPDX-License-Identifier: Apache-2.0
"""Text files that list images, or images and labels, one entry per line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from datasets.base import DataError
from datasets.listing import Items, distinct_names
from datasets.spec import Item
from runtime.limits import counted

LINE_ENDS = re.compile(r"\r\n|\r|\n")  # str.splitlines knows more, which names may contain
SEPARATORS = re.compile(r"[ \t;,]+")
UTF16_STARTS = (b"\xff\xfe", b"\xfe\xff")

Line = tuple[int, str]  # number from 1, text


def read_lines(path: Path, errors: str = "strict") -> list[Line]:
    """The lines of a UTF-8 list, with or without byte order mark, except blank ones and # remarks.

    errors: `surrogateescape` keeps other bytes as file names have them. Raises DataError for a file
    that cannot be read, and without it naming the line that is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the list cannot be read: {error.strerror}") from error
    if data.startswith(UTF16_STARTS) or b"\0" in data:
        raise DataError(f"{path}: is not text in UTF-8; save the list as UTF-8")
    try:
        text = data.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: line {number} is not UTF-8 (byte 0x{data[error.start]:02x}); "
            "save the list as UTF-8"
        ) from error
    lines = ((number, line.strip()) for number, line in enumerate(LINE_ENDS.split(text), 1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def split_pair(text: str, fits: Callable[[str, str], bool]) -> tuple[str, str] | None:
    """The two paths of a line, separated by a blank, tab, comma or semicolon, or None.

    If names contain such characters themselves, the first split that `fits` accepts counts.
    """
    text = text.strip("; ,\t")
    words = SEPARATORS.split(text)
    if len(words) == 2:
        return words[0], words[1]
    for found in SEPARATORS.finditer(text):
        halves = text[: found.start()], text[found.end() :]
        if all(halves) and fits(*halves):
            return halves
    return None


def locate(text: str, folders: Sequence[Path]) -> Path | None:
    """The file that `text` names: absolute, below the home (~), or below one of `folders`."""
    for spelling in dict.fromkeys((text, text.replace("\\", "/"))):
        path = Path(os.path.expanduser(spelling))
        for folder in folders:
            try:
                if (folder / path).is_file():  # an absolute path replaces the folder
                    return folder / path
            except OSError:  # longer than a file name can be
                return None
    return None


def faults_text(path: Path, faults: Sequence[tuple[int, str]]) -> str:
    """The one line about wrong lines of a list, each with its number and why."""
    number, text = faults[0]
    more = [str(other) for other, _ in faults[1:4]]
    dots = ", ..." if len(faults) > 4 else ""
    rest = f" ({counted(len(faults) - 1, 'more line')}: {', '.join(more)}{dots})" if more else ""
    return f"{path}: line {number}: {text}{rest}"


def image_list(path: Path) -> Items:
    """The images that a list names, absolute or relative to the list or the current folder.

    Raises DataError for lines that name no file, or one that another line names, and for a list
    without lines.
    """
    found: dict[Path, int] = {}
    faults = []
    for number, text in read_lines(path):
        image = locate(text, (path.parent, Path.cwd()))
        if image is None:
            faults.append((number, f"{text}: no such file, here or below {path.parent}"))
        elif image in found:
            faults.append((number, f"{text} is already in line {found[image]}"))
        else:
            found[image] = number
    if faults:
        raise DataError(faults_text(path, faults))
    if not found:
        raise DataError(f"{path}: lists no images")
    images = list(found)
    names = distinct_names(images, common_folder(images))
    return Items(
        Item(name=name, image=image, label=None) for name, image in zip(names, images, strict=True)
    )


def common_folder(paths: Sequence[Path]) -> Path:
    """The deepest folder that all files lie below; paths are compared as they are written."""
    return Path(os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths]))
