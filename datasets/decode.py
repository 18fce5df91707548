# SPDX-License-Identifier: Apache-2.0
"""Image files as uint8 RGB pixels.

How values become 0..255 depends on the type of the samples, never on the values of one image: of
16 bits the upper eight are kept, floating point means 0..1, and what has no such meaning is
refused. `levels` declares another range for everything deeper than 8 bits.
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from datasets.headers import BROKEN, DataError, Header, header_of, reason
from datasets.places import read_file
from datasets.spec import Item
from datasets.tiff_header import ORIENTATION

Picture = npt.NDArray[np.uint8]
Values = npt.NDArray[Any]
Levels = tuple[float, float]

PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
JPEG_START, JPEG_END, JPEG_SCAN = b"\xff\xd8\xff", b"\xff\xd9", b"\xff\xda"
# What follows a byte 255 in the last scan of a JPEG: stuffing, fill, restarts, the end.
SCAN_MARKERS = np.isin(np.arange(256), [0x00, 0xFF, *range(0xD0, 0xD8), JPEG_END[1]])
AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
FAILURES = (*BROKEN, MemoryError, cv2.error, zlib.error)
MIN_IS_WHITE, CMYK = 0, 5  # PhotometricInterpretation of a TIFF
UNCOMPRESSED = 1
PILLOW_GREY = {
    ("uint", 12),
    ("uint", 16),
    ("uint", 32),
    ("int", 16),
    ("int", 32),
    ("float", 32),
}  # kinds and bits of grey samples that Pillow keeps as they are
BACK = {6: 8, 8: 6}  # orientations undone by another one; the rest undo themselves


def read_image(path: Path, *, turned: bool = True, levels: Levels | None = None) -> Picture:
    """An image as uint8 (H, W, 3) RGB.

    `turned` as its header says, else as stored. Grey is repeated, the colours under an alpha
    channel are kept and the channel is dropped, and the first frame of an animation is taken.
    levels: the values of deep samples that become 0 and 255.
    Raises DataError for a missing, truncated or unreadable file, for samples of a type without
    a declared range, and for more bands than red, green, blue and alpha.
    """
    return decode_image(read_bytes(path, "image"), path, turned=turned, levels=levels)


def decode_image(
    data: bytes, path: Path, *, turned: bool = True, levels: Levels | None = None
) -> Picture:
    """The same for the bytes of a file; messages call it `path`."""
    header = header_of(data, path, "image")
    if refused := _refused(header, levels):
        raise DataError(f"{path}: image {refused}")
    try:
        pixels = _decoded(data, header, levels)
    except DataError as error:
        raise DataError(f"{path}: image {error}") from error
    except FAILURES as error:
        raise DataError(f"{path}: image cannot be read: {reason(error, data[:16])}") from error
    return turn(pixels, header.orientation) if turned else pixels


def read_item_image(item: Item) -> Picture:
    """The image of `item` as its data set wants it read."""
    return read_image(item.image, turned=item.turned, levels=item.levels)


def read_bytes(path: Path, what: str) -> bytes:
    """The content of a file, an "image" or a "label"; DataError if it cannot be read."""
    try:
        return read_file(path)
    except OSError as error:
        text = error.strerror or type(error).__name__
        raise DataError(f"{path}: {what} cannot be read: {text}") from error


def turn(pixels: Values, orientation: int) -> Values:
    """(H, W, ...) as stored -> upright, for an orientation 1..8 of EXIF."""
    if orientation in (5, 7):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (6, 8):
        pixels = np.rot90(pixels, -1 if orientation == 6 else 1)
    elif orientation in (3, 7):
        pixels = pixels[::-1, ::-1]
    elif orientation in (2, 4):
        pixels = pixels[:, ::-1] if orientation == 2 else pixels[::-1]
    return np.ascontiguousarray(pixels)


def as_stored(image: Image.Image, mode: str = "") -> Values:
    """The pixels of an image that is not loaded yet, in `mode` or its own, as they are stored.

    Pillow turns a TIFF while it loads it, and that is undone.
    """
    applied = image.getexif().get(ORIENTATION, 1) if image.format == "TIFF" else 1
    image.load()
    pixels = np.asarray(image.convert(mode) if mode else image)
    return turn(pixels, BACK.get(applied, applied))


def _refused(header: Header, levels: Levels | None) -> str:
    """Why samples of this kind are not read, or an empty text."""
    if header.extra:
        if header.photometric < 2 and header.bands == 3:
            return (
                "has 3 bands that are not declared red, green and blue; store it as RGB "
                "(gdal_translate -co PHOTOMETRIC=RGB)"
            )
        return (
            f"has {header.bands} bands, {header.extra} beyond colour and alpha; store the three "
            "that are red, green and blue (gdal_translate -b 1 -b 2 -b 3 -co PHOTOMETRIC=RGB)"
        )
    is_declared = header.kind == "uint" and header.bits <= 16
    is_fraction = header.kind == "float" and header.bits == 32
    if (
        is_declared
        or is_fraction
        or (levels is not None and header.kind in ("uint", "int", "float"))
    ):
        return ""
    name = {"uint": "unsigned integers", "int": "signed integers", "float": "floating point"}
    if header.kind not in name:
        return (
            f"has samples of {header.bits} bits whose type is {header.kind}; convert it to 8 or 16 "
            "bits, whole numbers"
        )
    return (
        f"has samples of {header.bits} bits, {name[header.kind]}, and nothing tells which values "
        "are black and white; convert it to 8 or 16 bits, or give range: [low, high] in the YAML "
        "of the data set"
    )


def _decoded(data: bytes, header: Header, levels: Levels | None) -> Picture:
    """Pixels as stored, uint8 (H, W, 3)."""
    is_deep = header.bits > 8 or header.kind != "uint"
    if _is_whole(data):
        flags = cv2.IMREAD_UNCHANGED if is_deep else AS_STORED
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if decoded is not None and decoded.shape[:2] == (header.height, header.width):
            if is_deep:
                return _shallow(_in_rgb_order(decoded), header, levels)
            return np.asarray(decoded, np.uint8)
    if is_deep and (values := _exact(data, header, levels)) is not None:
        return _shallow(values, header, levels)
    if is_deep and levels is not None:
        raise DataError(
            f"is a {header.format} whose samples of {header.bits} bits are read by their "
            "upper half alone, so that range: has no effect; store it as PNG, or as TIFF without "
            "compression"
        )
    with Image.open(io.BytesIO(data)) as image:
        return np.array(as_stored(image, "RGB"), np.uint8)


def _is_whole(data: bytes) -> bool:
    """Whether `data` is a JPEG or PNG with its end, and has no marker inside the last JPEG scan.

    OpenCV silently fills in what is truncated or broken; Pillow decides about all others.
    """
    if data.startswith(PNG_START):
        return PNG_END in data[-64:]
    if not data.startswith(JPEG_START) or JPEG_END not in data[-64:]:
        return False
    scan = np.frombuffer(data, np.uint8)[data.rfind(JPEG_SCAN) + len(JPEG_SCAN) :]
    return bool(SCAN_MARKERS[scan[1:][scan[:-1] == 0xFF]].all())


def _in_rgb_order(decoded: Values) -> Values:
    """What OpenCV decodes unchanged, without alpha and red first: (H, W) or (H, W, 3)."""
    return decoded if decoded.ndim == 2 else decoded[..., 2::-1]


def _exact(data: bytes, header: Header, levels: Levels | None) -> Values | None:
    """Deep samples as they are stored, (H, W) or (H, W, 3), alpha dropped.

    None if Pillow gives the upper eight bits of each, which is what is wanted as well.
    """
    if header.photometric == CMYK:
        return None
    if header.format != "TIFF" or (header.kind, header.bits) in PILLOW_GREY and header.bands == 1:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode[0] in "IF":
                return _typed(as_stored(image), header)
        return None
    is_raw_planar = header.is_planar and header.compression == UNCOMPRESSED
    if header.kind == "uint" and header.bits == 16 and levels is None and not is_raw_planar:
        return None
    return _with_tifffile(data, header)


def _with_tifffile(data: bytes, header: Header) -> Values:
    """Deep samples of a TIFF that Pillow does not keep: of several bands or of other types."""
    import tifffile  # importing it takes a third of the start-up time, for files that few sets have

    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages.first
        try:
            values = page.asarray()
        except (ValueError, TypeError) as error:
            raise DataError(
                f"is a TIFF of {header.bits} bits whose compression is not read at that depth "
                f"({' '.join(str(error).split())}); store it uncompressed or with deflate"
            ) from error
    if header.is_planar:
        values = np.moveaxis(values, 0, -1)
    if header.bands == 1:
        return values
    return values[..., :3] if header.bands > 2 else values[..., 0]


def _typed(values: Values, header: Header) -> Values:
    """Pillow holds unsigned numbers of 32 bits as signed ones."""
    return values.view(np.uint32) if (header.kind, header.bits) == ("uint", 32) else values


def _shallow(values: Values, header: Header, levels: Levels | None) -> Picture:
    """Deep samples (H, W) or (H, W, 3) as uint8 (H, W, 3); DataError if values exceed 0..1."""
    if header.photometric == MIN_IS_WHITE and header.kind == "uint":
        values = (1 << header.bits) - 1 - values.astype(np.uint32)
    if header.kind == "uint" and levels is None:
        small = (values.astype(np.uint32) >> (header.bits - 8)).astype(np.uint8)
    else:
        low, high = levels or (0.0, 1.0)
        fractions = (values.astype(np.float64) - low) / (high - low)
        if np.isnan(fractions).any():
            raise DataError("holds values that are not numbers (NaN)")
        if levels is None and (fractions.min() < 0 or fractions.max() > 1):
            raise DataError(
                f"has floating point samples from {values.min():g} to {values.max():g}; 0..1 is "
                "read without a range; convert it to 8 or 16 bits, or give range: [low, high] in "
                "the YAML of the data set"
            )
        small = (fractions.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(small[..., None], 3, -1) if small.ndim == 2 else small)
