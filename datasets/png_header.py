# SPDX-License-Identifier: Apache-2.0
"""The header of a PNG and what its chunks say about the orientation, without decoding pixels.

Pillow decodes a PNG before it answers, because the orientation may follow the pixels; going from
chunk to chunk takes a thousandth of that time.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from mmap import mmap

from datasets.tiff_header import exif_orientation, xmp_orientation

START = b"\x89PNG\r\n\x1a\n"
GREY, PALETTE = 0, 3  # colour types of IHDR
XMP_KEYWORD, PROFILE_KEYWORD = b"XML:com.adobe.xmp", b"Raw profile type exif"
PIXELS, TAIL = b"IDAT", 1 << 17  # bytes at the end that are searched for a chunk of pixels
MAX_TEXT = 1 << 20  # bytes of an unpacked text chunk that are read

_CHUNK = struct.Struct(">I4s")
_HEADER = struct.Struct(">IIBB")
_TOLD = frozenset((b"eXIf", b"tEXt", b"zTXt", b"iTXt"))


@dataclass(frozen=True, kw_only=True)
class PngHeader:
    """Size as stored, bits of a sample, colour type, orientation 1..8 (or another number, if the
    file is wrong), and whether the file ends inside a chunk."""

    height: int
    width: int
    bits: int
    color: int
    orientation: int
    is_truncated: bool


def read_png_header(data: bytes | mmap) -> PngHeader:
    """What the chunks of a PNG say; SyntaxError for a file without a whole header."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise SyntaxError("broken PNG header")
    width, height, bits, color = _HEADER.unpack_from(data, 16)
    told: dict[bytes, int] = {}
    at, size, kind, unpack = len(START), len(data), b"", _CHUNK.unpack_from
    is_past = False  # the many chunks of pixels
    while at + 8 <= size:
        length, kind = unpack(data, at)
        if kind == b"IEND":
            break
        if kind == PIXELS and not is_past:
            at, is_past = _last_pixels(data, at), True
            continue
        if kind in _TOLD:
            _note(told, kind, bytes(data[at + 8 : at + 8 + length]))
        at += 12 + length
    found = (told[source] for source in (b"eXIf", PROFILE_KEYWORD, XMP_KEYWORD) if source in told)
    return PngHeader(
        height=height,
        width=width,
        bits=bits,
        color=color,
        orientation=next(found, 1),
        is_truncated=kind != b"IEND" and at > size,
    )


def has_sound_chunks(data: bytes) -> bool:
    """Whether every chunk up to the end of the image is there with the right checksum."""
    at, size = len(START), len(data)
    while at + 12 <= size:
        length, kind = _CHUNK.unpack_from(data, at)
        end = at + 8 + length
        if end + 4 > size or zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4]):
            return False
        if kind == b"IEND":
            return True
        at = end + 4
    return False


def _last_pixels(data: bytes | mmap, first: int) -> int:
    """Where one of the last chunks of pixels begins; the first of all if no short one is found.

    libpng cuts pixels into hundreds of pieces. Only one whose checksum is right counts, so the walk
    continues at a true beginning.
    """
    at = data.find(PIXELS, max(first + 8, len(data) - TAIL))
    while at >= 0:
        end = at + 4 + int.from_bytes(data[at - 4 : at], "big")
        if end + 4 <= len(data):
            checksum = zlib.crc32(data[at:end])
            if checksum == int.from_bytes(data[end : end + 4], "big"):
                return at - 4
        at = data.find(PIXELS, at + 4)
    return first


def _note(told: dict[bytes, int], kind: bytes, content: bytes) -> None:
    """Store the orientation that one chunk names, if it does, under its kind or keyword."""
    if kind == b"eXIf":
        source, orientation = kind, exif_orientation(content)
    else:
        source, _, rest = content.partition(b"\0")
        if source not in (XMP_KEYWORD, PROFILE_KEYWORD):
            return
        text = _text(kind, rest)
        orientation = xmp_orientation(text) if source == XMP_KEYWORD else _profile(text)
    if orientation is not None:
        told.setdefault(source, orientation)


def _text(kind: bytes, rest: bytes) -> bytes:
    """What follows the keyword of a text chunk, unpacked."""
    is_packed = kind == b"zTXt"
    if kind == b"zTXt":
        rest = rest[1:]
    elif kind == b"iTXt":
        is_packed, rest = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    if not is_packed:
        return rest
    try:
        return zlib.decompressobj().decompress(rest, MAX_TEXT)
    except zlib.error:
        return b""


def _profile(text: bytes) -> int | None:
    """The orientation of EXIF data as ImageMagick writes it: name, length, hexadecimal lines."""
    try:
        return exif_orientation(bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii")))
    except ValueError:
        return None
