# SPDX-License-Identifier: Apache-2.0
"""The predictor without torch decodes images as evaluation does."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from datasets.decode import read_image
from deploy.predict import ImageError, orientation_of, read_rgb

RNG = np.random.default_rng(0)
COLOUR = Image.fromarray(np.kron(RNG.integers(0, 256, (5, 7, 3)), np.ones((8, 8, 1))).astype("u1"))
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def exif(orientation: int) -> bytes:
    """EXIF data with an orientation."""
    data = Image.Exif()
    data[274] = orientation
    return data.tobytes()


def deep(channels: int) -> Image.Image | np.ndarray:
    """Samples of 16 bits whose lower halves matter to nobody."""
    shape = (20, 30) if channels == 1 else (20, 30, channels)
    return np.random.default_rng(1).integers(0, 1 << 16, shape).astype(np.uint16)


def as_png(path: Path, pixels: np.ndarray) -> None:
    """What Pillow cannot write: colours of 16 bits."""
    import cv2

    cv2.imwrite(str(path), pixels)


def profile(path: Path) -> None:
    """EXIF data as ImageMagick writes them: hexadecimal text."""
    info = PngImagePlugin.PngInfo()
    data = exif(8)
    info.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n", zip=True)
    COLOUR.save(path, pnginfo=info)


def packet(path: Path) -> None:
    """A PNG whose XMP packet alone tells the orientation."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    COLOUR.save(path, pnginfo=info)


FILES: dict[str, Callable[[Path], object]] = {
    "colour.jpg": COLOUR.save,
    "grey.jpg": COLOUR.convert("L").save,
    "cmyk.jpg": COLOUR.convert("CMYK").save,
    "progressive.jpg": lambda path: COLOUR.save(path, progressive=True),
    "xmp.jpg": lambda path: COLOUR.save(path, xmp=XMP),
    "colour.png": COLOUR.save,
    "grey.png": COLOUR.convert("L").save,
    "bits.png": COLOUR.convert("1").save,
    "palette.png": COLOUR.convert("P").save,
    "alpha.png": lambda path: COLOUR.convert("RGBA").save(path),
    "half_alpha.png": lambda path: COLOUR.convert("LA").save(path),
    "grey16.png": lambda path: as_png(path, deep(1)),
    "colour16.png": lambda path: as_png(path, deep(3)),
    "alpha16.png": lambda path: as_png(path, deep(4)),
    "profile.png": profile,
    "xmp.png": packet,
    "colour.bmp": COLOUR.save,
    "colour.webp": lambda path: COLOUR.save(path, lossless=True),
    "turned.webp": lambda path: COLOUR.save(path, lossless=True, exif=exif(6)),
    "turned.png": lambda path: COLOUR.save(path, exif=exif(6)),
}
FILES |= {
    f"turned{number}.jpg": lambda path, number=number: COLOUR.save(path, exif=exif(number))
    for number in range(1, 9)
}


@pytest.mark.parametrize("name", FILES)
def test_an_image_is_decoded_as_evaluation_decodes_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    FILES[name](path)
    found, wanted = read_rgb(path), read_image(path)
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, wanted)


def test_a_truncated_file_is_refused_by_its_name(tmp_path: Path) -> None:
    for kind in ("jpeg", "png"):
        whole = io.BytesIO()
        COLOUR.save(whole, kind)
        path = tmp_path / f"torn.{kind}"
        path.write_bytes(whole.getvalue()[:-40])
        with pytest.raises(ImageError, match=f"torn.{kind}: the file is truncated"):
            read_rgb(path)


def test_what_is_no_image_of_a_known_kind_is_refused(tmp_path: Path) -> None:
    for name, content in (("empty.png", b""), ("text.jpg", b"hello")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=f"{name}: empty, or of a kind not read here"):
            read_rgb(tmp_path / name)
    with pytest.raises(ImageError, match="missing.png: No such file"):
        read_rgb(tmp_path / "missing.png")


def test_broken_exif_data_turn_nothing() -> None:
    assert orientation_of(b"\xff\xd8\xff\xe1\x00\x20Exif\0\0MM\0*\0\0\0\x08\0\x09") == 1
    assert orientation_of(b"RIFF....WEBPEXIF\xff\xff\xff\xffII*\0") == 1
