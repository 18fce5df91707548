# SPDX-License-Identifier: Apache-2.0
"""Whether an image file is complete and of a kind that is read, without decoding it.

A truncated file still has a good header. Its end tells: most formats close with a mark or state
their length at the beginning. If the end tells nothing, the file is decoded after all, and so are
files whose samples can only be judged by their values, such as floating point.
"""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from datasets.decode import read_item_image
from datasets.headers import BROKEN, DataError, read_header
from datasets.places import open_file
from datasets.spec import Item
from datasets.tiff_header import STARTS as TIFF_STARTS

START, END = 12, 64  # bytes that are read
PNG = (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82")
JPEG = (b"\xff\xd8\xff", b"\xff\xd9")
TIFF_PARTS = ((273, 279), (324, 325))  # tags: where strips or tiles begin, and their lengths


def check_whole(item: Item) -> None:
    """Raise DataError for an image whose file ends too early, or that cannot be read as it is."""
    path = item.image
    try:
        with open_file(path) as file:
            start = file.read(START)
            length = file.seek(0, os.SEEK_END)
            file.seek(max(length - END, 0))
            end = file.read()
    except OSError as error:
        raise DataError(f"{path}: image cannot be read: {error.strerror}") from error
    is_plain = True
    if start.startswith(TIFF_STARTS):  # samples of any kind, unlike most other formats
        header = read_header(path, "image")
        is_plain = header.kind == "uint" and header.bits <= 16 and not header.extra
    if not is_plain or not _is_closed(path, start, end, length):
        read_item_image(item)  # raises what is wrong, if anything


def _is_closed(path: Path, start: bytes, end: bytes, length: int) -> bool:
    """Whether a file of `length` bytes certainly reaches its end; False if that is unknown."""
    for first, last in (PNG, JPEG):
        if start.startswith(first):
            return last in end
    if start.startswith(b"RIFF"):
        return length >= int.from_bytes(start[4:8], "little") + 8
    if start.startswith(TIFF_STARTS):
        return _has_all_parts(path, length)
    return False


def _has_all_parts(path: Path, length: int) -> bool:
    """Whether all strips or tiles of a TIFF file lie inside it."""
    try:
        with open_file(path) as file, Image.open(file) as image:
            tags = getattr(image, "tag_v2", {})
            for starts, sizes in TIFF_PARTS:
                if starts in tags and sizes in tags:
                    ends = zip(tags[starts], tags[sizes], strict=True)
                    return all(first + size <= length for first, size in ends)
    except (*BROKEN, TypeError):
        pass
    return False
