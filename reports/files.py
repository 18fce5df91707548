# SPDX-License-Identifier: Apache-2.0
"""Images as bytes, and links to files."""

from __future__ import annotations

import base64
import io
import os
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from PIL import Image

PNG_LEVEL = 2  # zlib level: a third of the time of the usual 6 for files 5 % larger
JPEG_QUALITY = 90


def encode_png(pixels: npt.NDArray[Any], palette: list[int] | None = None) -> bytes:
    """PNG of uint8 (H, W, 3) as RGB, of (H, W) as grey, or as indices into 256 x RGB values.

    uint16 (H, W) gives grey of 16 bits.
    """
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if palette is not None:
        picture.putpalette(palette)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def png_link(pixels: npt.NDArray[Any], palette: list[int] | None = None) -> str:
    """The PNG of `encode_png` as a data link."""
    return _link("png", encode_png(pixels, palette))


def jpeg_link(pixels: npt.NDArray[np.uint8], longest: int) -> str:
    """uint8 RGB (H, W, 3), shrunk to at most `longest` pixels per side, as a data link of a
    JPEG."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return _link("jpeg", buffer.getvalue())


def _link(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def levels(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """0..1 or bool as 0..255: the value times 255, truncated."""
    return (np.clip(values.astype(np.float32), 0, 1) * 255).astype(np.uint8)


def grey(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """0..1 or bool (H, W) as grey RGB pixels (H, W, 3), see `levels`."""
    return np.repeat(levels(values)[:, :, None], 3, axis=2)


def colored(ids: npt.NDArray[Any], palette: list[int]) -> npt.NDArray[np.uint8]:
    """Class ids (H, W) as the RGB pixels (H, W, 3) of a palette, RGB values one after the other."""
    pixels: npt.NDArray[np.uint8] = np.asarray(palette, np.uint8).reshape(-1, 3)[ids]
    return pixels


def is_ids(values: npt.NDArray[Any]) -> bool:
    """Whether a map of an evaluation holds class ids; else it holds values 0..1."""
    return values.dtype == np.uint8


def encode_map(values: npt.NDArray[Any], palette: list[int]) -> bytes:
    """PNG of a map (h, w): class ids with their palette, other values in grey."""
    return encode_png(values, palette) if is_ids(values) else encode_png(grey(values))


def href(file: str) -> str:
    """The relative path `file` as a link of a page; bytes that are not UTF-8 are kept."""
    return quote(os.fsencode(file))
