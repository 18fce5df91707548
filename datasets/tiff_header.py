# SPDX-License-Identifier: Apache-2.0
"""The tags of a TIFF that say what its samples are, also of files that Pillow does not open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from datasets.png_header import ORIENTATION_TAG, xmp_orientation

STARTS = (b"II*\0", b"MM\0*", b"II+\0")
KINDS = {1: "uint", 2: "int", 3: "float"}  # SampleFormat; 4 is undefined
COLOR_BANDS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # PhotometricInterpretation -> bands
ALPHA = (1, 2, 999)  # ExtraSamples of an alpha channel; 999 is what Corel Draw writes
RGB = 2
JPEG_COMPRESSIONS = (6, 7)
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, BANDS = 256, 257, 258, 259, 262, 277
PLANAR, EXTRA, FORMAT, XMP = 284, 338, 339, 700
DATA = ((273, 279), (324, 325))  # offsets and byte counts of strips, of tiles


@dataclass(frozen=True, kw_only=True)
class TiffHeader:
    """Size as stored and what one sample is.

    bands: all of a pixel; extra: those beyond the declared colours that are no alpha channel.
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


def read_tiff_header(stream: IO[bytes], size: int) -> TiffHeader:
    """The first directory of a TIFF of `size` bytes.

    Raises SyntaxError, or what Pillow raises, where there is none or its numbers make no sense.
    """
    start = stream.read(8)
    if start[2:3] == b"+":
        start += stream.read(8)
    tags: Any = ImageFileDirectory_v2(start)
    stream.seek(tags.next)
    tags.load(stream)
    if not {WIDTH, HEIGHT} <= set(tags):
        raise SyntaxError("no size in the TIFF header")
    photometric = int(tags.get(PHOTOMETRIC, 0))
    bits = _several(tags.get(BITS, 1))
    compression = int(tags.get(COMPRESSION, 1))
    is_color_jpeg = compression in JPEG_COMPRESSIONS and photometric in (RGB, 6)
    bands = int(tags.get(BANDS, 3 if is_color_jpeg else 1))
    extra = max(bands - COLOR_BANDS.get(photometric, 1), 0)
    kinds = {KINDS.get(value, "undefined") for value in _several(tags.get(FORMAT, 1))}
    alpha = _several(tags.get(EXTRA, ()))
    if extra == 1 and (not alpha or alpha[0] in ALPHA):
        extra = 0
    return TiffHeader(
        height=int(tags[HEIGHT]),
        width=int(tags[WIDTH]),
        bits=max(bits),
        kind=kinds.pop() if len(kinds) == 1 else "mixed",
        bands=bands,
        extra=extra,
        is_planar=int(tags.get(PLANAR, 1)) == 2 and bands > 1,
        compression=compression,
        photometric=photometric,
        orientation=_orientation(tags),
        is_truncated=any(_end(tags, *pair) > size for pair in DATA),
    )


def _several(value: int | Iterable[int]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


def _orientation(tags: Any) -> int:
    """Of the tag, else of the XMP packet, else 1."""
    if ORIENTATION_TAG in tags:
        return int(tags[ORIENTATION_TAG])
    packet = tags.get(XMP, b"")
    found = xmp_orientation(packet if isinstance(packet, bytes) else bytes(packet))
    return 1 if found is None else found


def _end(tags: Any, offsets: int, counts: int) -> int:
    """Where the last strip or tile ends."""
    pairs = zip(_several(tags.get(offsets, ())), _several(tags.get(counts, ())), strict=False)
    return max((offset + count for offset, count in pairs), default=0)
