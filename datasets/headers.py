# SPDX-License-Identifier: Apache-2.0
"""What the header of an image file says: size, orientation, and what one sample is.

The sizes checked before a run and the pixels read during it follow the same `Header` of a file, so
they cannot disagree. Orientation is what EXIF data or the TIFF tag say, else the XMP packet.
"""

from __future__ import annotations

import io
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image

from datasets import png_header
from datasets.places import open_file
from datasets.png_header import read_png_header
from datasets.spec import Item
from datasets.tiff_header import STARTS as TIFF_STARTS
from datasets.tiff_header import exif_orientation, read_tiff_header, xmp_orientation
from runtime.errors import UserError

# The one limit for images and labels of every format. OpenCV has the same; that of Pillow is lower,
# and by it an orthophoto could be dumped but not read again.
MAX_PIXELS = 1 << 30
Image.MAX_IMAGE_PIXELS = None  # `_checked` decides, from the header and before anything is decoded

# What Pillow raises for broken files, depending on the format and on where they break.
BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, OverflowError, struct.error)

EXCHANGED = (5, 6, 7, 8)  # orientations whose sides are exchanged
PNG_COLORS = {0: 1, 2: 3, 3: 1, 4: 1, 6: 3}  # colour type -> bands without alpha
FLOATING, SIGNED = "F", "I"  # Pillow's modes of 32-bit samples
KNOWN_STARTS = (
    (png_header.START, "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    *((start, "TIFF") for start in TIFF_STARTS),
)


class DataError(UserError):
    """A file of a data set is missing, broken or does not fit; the message names it."""


def size_text(height: int, width: int) -> str:
    """A size as people write it: width x height."""
    return f"{width}x{height}"


@dataclass(frozen=True, kw_only=True)
class Header:
    """A file's own description.

    format: Pillow's name of it. height, width: as stored. orientation: 1..8, 1 is upright.
    bits, kind: of a sample; kind is "uint", "int" or "float". bands: of a pixel, if the format says
    so, `extra` of them being neither colours nor alpha. is_planar: bands are stored one by one.
    is_palette: samples are indices. photometric, compression: of a TIFF, else -1.
    """

    format: str
    height: int
    width: int
    orientation: int = 1
    bits: int = 8
    kind: str = "uint"
    bands: int = 1
    extra: int = 0
    is_planar: bool = False
    is_palette: bool = False
    photometric: int = -1
    compression: int = -1

    def size(self, turned: bool) -> tuple[int, int]:
        """(H, W) as stored, or `turned` as the orientation says."""
        exchanged = turned and self.orientation in EXCHANGED
        return (self.width, self.height) if exchanged else (self.height, self.width)

    @property
    def is_low_grey(self) -> bool:
        """Whether it is grey of 1, 2 or 4 bits."""
        return self.bits < 8 and not self.is_palette and self.bands == 1


def read_header(path: Path, what: str) -> Header:
    """The header of the file `path`, an "image" or a "label", read without the pixels.

    Raises DataError for a missing or unreadable file, and for more than MAX_PIXELS.
    """
    try:
        with open_file(path) as stream:
            return _of_stream(stream, path, what)
    except OSError as error:
        text = error.strerror or type(error).__name__
        raise DataError(f"{path}: {what} cannot be read: {text}") from error


def _of_stream(stream: IO[bytes], path: Path, what: str) -> Header:
    start = stream.read(16)
    if not start.startswith(png_header.START):
        stream.seek(0, io.SEEK_END)
        return _checked(stream, start, stream.tell(), path, what)
    if isinstance(stream, io.BytesIO):  # a member of an archive, or a copy
        return header_of(stream.getvalue(), path, what)
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _checked(data, start, len(data), path, what)


def header_of(data: bytes, path: Path, what: str) -> Header:
    """The same for the bytes of a file."""
    is_png = data.startswith(png_header.START)
    source = data if is_png else io.BytesIO(data)
    return _checked(source, data[:16], len(data), path, what)


def _checked(
    source: bytes | mmap.mmap | IO[bytes], start: bytes, size: int, path: Path, what: str
) -> Header:
    """The header, if its size may be read; otherwise a DataError with one line."""
    try:
        if isinstance(source, (bytes, mmap.mmap)):
            header = _of_png(source)
        elif start.startswith(TIFF_STARTS):
            source.seek(0)
            header = _of_tiff(source, size)
        else:
            source.seek(0)
            header = _of_other(source)
    except BROKEN as error:
        raise DataError(f"{path}: {what} cannot be read: {reason(error, start)}") from error
    pixels = header.height * header.width
    if not pixels:
        raise DataError(f"{path}: {what} cannot be read: it has no pixels")
    if pixels > MAX_PIXELS:
        raise DataError(
            f"{path}: {what} has {header.width}x{header.height} = {pixels / 1e6:.0f} million "
            f"pixels, at most {MAX_PIXELS / 1e6:.0f} million are read; cut it into tiles"
        )
    return header


def _of_png(data: bytes | mmap.mmap) -> Header:
    png = read_png_header(data)
    if png.is_truncated:
        raise OSError("the file is truncated")
    return Header(
        format="PNG",
        height=png.height,
        width=png.width,
        orientation=_valid(png.orientation),
        bits=png.bits,
        bands=PNG_COLORS.get(png.color, 1),
        is_palette=png.color == png_header.PALETTE,
    )


def _of_tiff(stream: IO[bytes], size: int) -> Header:
    tiff = read_tiff_header(stream, size)
    if tiff.is_truncated:
        raise OSError("the file is truncated")
    return Header(
        format="TIFF",
        height=tiff.height,
        width=tiff.width,
        orientation=_valid(tiff.orientation),
        bits=tiff.bits,
        kind=tiff.kind,
        bands=tiff.bands,
        extra=tiff.extra,
        is_planar=tiff.is_planar,
        is_palette=tiff.photometric == 3,
        photometric=tiff.photometric,
        compression=tiff.compression,
    )


def _of_other(stream: IO[bytes]) -> Header:
    with Image.open(stream) as image:
        mode, form = image.mode, image.format or ""
        bits, kind = 8, "uint"
        if mode == "1":
            bits = 1
        elif mode.startswith("I;16") or (mode == SIGNED and form == "PPM"):
            bits = 16  # Pillow scales every PGM of more than 8 bits to 16
        elif mode in (SIGNED, FLOATING):
            bits, kind = 32, "int" if mode == SIGNED else "float"
        return Header(
            format=form,
            height=image.height,
            width=image.width,
            orientation=_orientation(image),
            bits=bits,
            kind=kind,
            bands=len(image.getbands()),
            is_palette=mode in ("P", "PA"),
        )


def _orientation(image: Image.Image) -> int:
    """1..8 of the EXIF data, else of the XMP packet; 1 if these are broken."""
    found = exif_orientation(image.info.get("exif", b""))
    if found is None:
        packet = image.info.get("xmp", b"")
        found = xmp_orientation(packet.encode() if isinstance(packet, str) else packet)
    return 1 if found is None else _valid(found)


def _valid(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 1


def reason(error: BaseException, start: bytes) -> str:
    """Why a file that begins with `start` cannot be read, in one line."""
    if not start:
        return "the file is empty"
    if isinstance(error, MemoryError) or "Insufficient memory" in str(error):
        return "there is not enough memory for it"
    text = " ".join(str(error).split()) or type(error).__name__
    if "cannot identify" not in text:
        return text
    known = [name for magic, name in KNOWN_STARTS if start.startswith(magic)]
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        known.append("WebP")
    if not known:
        return "no known image format"
    return f"a {known[0]} file that is damaged, or of a kind that cannot be decoded"


def image_size(path: Path, *, turned: bool = True) -> tuple[int, int]:
    """(H, W) of an image from its header alone, `turned` as its orientation says or as stored."""
    return read_header(path, "image").size(turned)


def item_size(item: Item) -> tuple[int, int]:
    """(H, W) of the image of `item` as it is read."""
    return image_size(item.image, turned=item.turned)


def label_size(path: Path) -> tuple[int, int]:
    """(H, W) of a label file from its header alone; labels are read as they are stored."""
    return read_header(path, "label").size(turned=False)
