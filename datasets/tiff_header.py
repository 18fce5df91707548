# SPDX-License-Identifier: Apache-2.0
"""The tags of a TIFF that say what its samples are, also for files that Pillow does not open.

EXIF data are a TIFF without pixels, so their orientation is found in the same way.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import IO

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
KINDS = {1: "uint", 2: "int", 3: "float"}  # SampleFormat; 4 is undefined
COLOR_BANDS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # PhotometricInterpretation -> bands
ALPHA = (1, 2, 999)  # ExtraSamples of an alpha channel; 999 is what Corel Draw writes
RGB, YCBCR = 2, 6
JPEG_COMPRESSIONS = (6, 7)
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, BANDS = 256, 257, 258, 259, 262, 277
ORIENTATION, PLANAR, EXTRA, FORMAT, XMP = 274, 284, 338, 339, 700
DATA = ((273, 279), (324, 325))  # offsets and byte counts of strips, of tiles
WANTED = frozenset((
    WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, BANDS, ORIENTATION, PLANAR, EXTRA, FORMAT, XMP,
    *DATA[0], *DATA[1],
))  # fmt: skip
LETTERS = {1: "B", 3: "H", 4: "L", 6: "b", 7: "B", 8: "h", 9: "l", 16: "Q"}  # type -> struct
MAX_TAGS = 4096
XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
EXIF_START = b"Exif\0\0"

Tags = Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class TiffHeader:
    """Size as stored and what one sample is.

    bands: all of a pixel; extra: those beyond the declared colours that are not an alpha channel.
    is_planar: every band is stored by itself. compression, photometric: the numbers of the tags.
    """

    height: int
    width: int
    bits: int
    kind: str
    bands: int
    extra: int
    is_planar: bool
    compression: int
    photometric: int
    orientation: int
    is_truncated: bool


def read_tags(stream: IO[bytes], wanted: Collection[int]) -> dict[int, tuple[int, ...]]:
    """The whole numbers (or bytes) of the `wanted` tags in the first directory of a TIFF.

    Raises SyntaxError if there is no directory, struct.error if the file is truncated.
    """
    start = stream.read(16)
    if start[:4] not in STARTS:
        raise SyntaxError("no TIFF header")
    order, is_big = ("<" if start[:2] == b"II" else ">"), b"+" in start[2:4]
    entry = struct.Struct(order + ("HHQ8s" if is_big else "HHL4s"))
    number = struct.Struct(order + ("Q" if is_big else "L"))
    count = struct.Struct(order + ("Q" if is_big else "H"))
    stream.seek(number.unpack_from(start, 8 if is_big else 4)[0])
    length = min(count.unpack(stream.read(count.size))[0], MAX_TAGS)
    directory = stream.read(entry.size * length)
    tags: dict[int, tuple[int, ...]] = {}
    for tag, kind, size, inside in entry.iter_unpack(directory):
        if tag not in wanted or kind not in LETTERS:
            continue
        values = struct.Struct(f"{order}{size}{LETTERS[kind]}")
        if values.size > len(inside):
            stream.seek(number.unpack(inside)[0])
            inside = stream.read(values.size)
        tags[tag] = values.unpack_from(inside)
    return tags


def read_tiff_header(stream: IO[bytes], size: int) -> TiffHeader:
    """The first directory of a TIFF of `size` bytes.

    Raises SyntaxError or struct.error if there is none or it gives no size.
    """
    tags = read_tags(stream, WANTED)
    if not {WIDTH, HEIGHT} <= set(tags):
        raise SyntaxError("no size in the TIFF header")
    photometric = _first(tags, PHOTOMETRIC, 0)
    compression = _first(tags, COMPRESSION, 1)
    is_color_jpeg = compression in JPEG_COMPRESSIONS and photometric in (RGB, YCBCR)
    bands = _first(tags, BANDS, 3 if is_color_jpeg else 1)
    extra = max(bands - COLOR_BANDS.get(photometric, 1), 0)
    if extra == 1 and _first(tags, EXTRA, ALPHA[0]) in ALPHA:
        extra = 0
    kinds = {KINDS.get(value, "undefined") for value in tags.get(FORMAT, (1,))}
    return TiffHeader(
        height=_first(tags, HEIGHT, 0),
        width=_first(tags, WIDTH, 0),
        bits=max(tags.get(BITS, (1,))),
        kind=kinds.pop() if len(kinds) == 1 else "mixed",
        bands=bands,
        extra=extra,
        is_planar=_first(tags, PLANAR, 1) == 2 and bands > 1,
        compression=compression,
        photometric=photometric,
        orientation=_orientation(tags),
        is_truncated=any(_end(tags, *pair) > size for pair in DATA),
    )


def _first(tags: Tags, tag: int, default: int) -> int:
    values = tags.get(tag, ())
    return values[0] if values else default


def _orientation(tags: Tags) -> int:
    """Of the tag, else of the XMP packet, else 1."""
    if ORIENTATION in tags:
        return _first(tags, ORIENTATION, 1)
    found = xmp_orientation(bytes(value & 255 for value in tags.get(XMP, ())))
    return 1 if found is None else found


def _end(tags: Tags, offsets: int, counts: int) -> int:
    """Where the last strip or tile ends."""
    pairs = zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False)
    return max((offset + count for offset, count in pairs), default=0)


def exif_orientation(content: bytes) -> int | None:
    """The orientation named by EXIF data; None if they name none or cannot be read."""
    try:
        tags = read_tags(io.BytesIO(content.removeprefix(EXIF_START)), (ORIENTATION,))
    except (SyntaxError, OSError, ValueError, OverflowError, struct.error):
        return None
    return _first(tags, ORIENTATION, 1) if ORIENTATION in tags else None


def xmp_orientation(text: bytes) -> int | None:
    """The orientation named by an XMP packet, or None."""
    match = XMP_ORIENTATION.search(text)
    return None if match is None else int(match[1])
