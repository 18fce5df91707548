# SPDX-License-Identifier: Apache-2.0
"""One header decides size and orientation, for the check before a run and for the pixels in it."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps, PngImagePlugin

from datasets import headers
from datasets.base import DataError, image_size, label_size, read_ids, read_image
from datasets.headers import read_header

PIXELS = np.kron(np.random.default_rng(0).integers(0, 256, (3, 5, 3)), np.ones((16, 16, 1))).astype(
    np.uint8
)
STORED = PIXELS.shape[:2]


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def xmp_of(orientation: int) -> bytes:
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>'
    ) % orientation


def chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


PNG_END = chunk(b"IEND", b"")


def png_bytes(**options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG", **options)
    return stream.getvalue()


def write(path: Path, kind: str, orientation: int) -> Path:
    """An image file that names its orientation in one of the ways that there are."""
    picture, xmp = Image.fromarray(PIXELS), xmp_of(orientation)
    path = path.with_suffix("." + kind.split("_")[0])
    exif = exif_of(orientation)
    if kind in ("jpg", "png", "webp", "tif", "avif"):
        picture.save(path, exif=exif, quality=95)
    elif kind == "mpo":
        picture.save(path, "MPO", exif=exif, quality=95, save_all=True, append_images=[picture])
    elif kind in ("jpg_xmp", "webp_xmp"):
        picture.save(path, xmp=xmp, quality=95)
    elif kind == "tif_xmp":
        picture.save(path, tiffinfo={700: xmp})
    elif kind == "png_xmp":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=True)
        picture.save(path, pnginfo=info)
    elif kind == "png_profile":  # as ImageMagick writes it
        data = exif.tobytes()
        lines = "\n".join(data.hex()[at : at + 72] for at in range(0, 2 * len(data), 72))
        info = PngImagePlugin.PngInfo()
        info.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{lines}\n", zip=True)
        picture.save(path, pnginfo=info)
    elif kind == "png_behind":
        data = png_bytes()
        path.write_bytes(data[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + data[-12:])
    return path


KINDS = (
    "jpg", "png", "webp", "tif", "avif", "mpo", "jpg_xmp", "webp_xmp", "tif_xmp", "png_xmp",
    "png_profile", "png_behind",
)  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_header_and_pixels_turn_by_one_rule_in_every_format(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    path = write(tmp_path / "a", kind, orientation)
    upright = Image.fromarray(PIXELS)
    upright.getexif()[0x0112] = orientation
    wanted = np.asarray(ImageOps.exif_transpose(upright)).astype(int)
    assert read_header(path, "image").orientation == orientation
    for turned, pixels in ((True, wanted), (False, PIXELS.astype(int))):
        image = read_image(path, turned=turned).astype(int)
        assert image_size(path, turned=turned) == image.shape[:2] == pixels.shape[:2]
        assert np.abs(image - pixels).mean() < 9


@pytest.mark.parametrize("kind", KINDS)
def test_an_orientation_that_is_none_leaves_the_image_upright(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "a", kind, 9)
    assert image_size(path) == read_image(path).shape[:2] == STORED


def test_exif_data_go_before_xmp(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(PIXELS).save(path, exif=exif_of(1), xmp=xmp_of(6))
    assert image_size(path) == read_image(path).shape[:2] == STORED


def test_broken_exif_data_do_not_stop_an_image(tmp_path: Path) -> None:
    data = png_bytes()
    path = tmp_path / "a.png"
    path.write_bytes(data[:33] + chunk(b"eXIf", b"MM\0*\0\0\xff\xff") + data[33:])
    assert image_size(path) == STORED
    assert (read_image(path) == PIXELS).all()


def test_the_exif_chunk_behind_hundreds_of_pixel_chunks_is_found(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 600, 3), dtype=np.uint8)
    assert cv2.imwrite(str(tmp_path / "a.png"), noise)  # chunks of 8 kB
    data = (tmp_path / "a.png").read_bytes()
    assert data.count(b"IDAT") > 50
    (tmp_path / "b.png").write_bytes(
        data[:-12] + chunk(b"eXIf", exif_of(8).tobytes()[6:]) + data[-12:]
    )
    assert image_size(tmp_path / "a.png") == (500, 600)
    assert image_size(tmp_path / "b.png") == read_image(tmp_path / "b.png").shape[:2] == (600, 500)


def test_a_png_header_is_read_where_no_pixel_can_be_decoded(tmp_path: Path) -> None:
    content = b"\xff" * 40  # no zlib stream
    (tmp_path / "a.png").write_bytes(png_bytes()[:33] + chunk(b"IDAT", content) + PNG_END)
    assert image_size(tmp_path / "a.png") == STORED
    with pytest.raises(DataError):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_file_that_ends_too_early_is_found_from_its_header(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(PIXELS).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    if ending == "tif":  # Pillow writes the directory in front
        assert path.read_bytes()[4:8] == b"\x08\0\0\0"
    with pytest.raises(DataError, match=r"a\.\w+: image cannot be read: the file is truncated"):
        image_size(path)


def test_labels_are_read_as_stored_in_every_format(tmp_path: Path) -> None:
    ids = np.arange(24, dtype=np.uint8).reshape(4, 6)
    for ending in ("png", "tif"):
        for orientation in (3, 6):
            path = tmp_path / f"l{orientation}.{ending}"
            Image.fromarray(ids).save(path, exif=exif_of(orientation))
            assert read_header(path, "label").orientation == orientation
            assert label_size(path) == (4, 6)
            assert read_ids(path).tolist() == ids.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_beyond_pillows_limit_header_label_and_image_are_read(tmp_path: Path, ending: str) -> None:
    side = 14000  # 196 million pixels
    path = tmp_path / f"a.{ending}"
    options = {"compression": "tiff_adobe_deflate"} if ending == "tif" else {"compress_level": 1}
    Image.new("1", (side, side), 1).save(path, **options)
    assert image_size(path) == label_size(path) == (side, side)
    assert (read_ids(path)[::999, ::999] == 1).all()


def bomb(path: Path, width: int, height: int) -> Path:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(100)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("call", [image_size, label_size, read_image, read_ids])
def test_more_pixels_than_the_limit_are_refused_from_the_header(
    tmp_path: Path, call: object
) -> None:
    path = bomb(tmp_path / "a.png", 50_000, 40_000)
    with pytest.raises(DataError) as raised:
        call(path)  # type: ignore[operator]
    text = str(raised.value)
    for words in (str(path), "50000x40000", "2000 million", "1074 million", "tiles"):
        assert words in text


def test_the_limit_holds_for_every_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "MAX_PIXELS", 1000)
    for ending in ("png", "jpg", "tif", "webp", "bmp"):
        Image.fromarray(PIXELS).save(tmp_path / f"a.{ending}")
        with pytest.raises(DataError, match="cut it into tiles"):
            read_image(tmp_path / f"a.{ending}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"<html>no image</html>", "no known image format"),
        (b"II*\0\xff\xff\xff\xff", "."),
        (b"GIF89a" + bytes(3), "."),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "JPEG 2000"),
    ],
)
def test_the_reason_tells_what_a_file_is(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        image_size(path)
    text = str(raised.value)
    assert words in text and "\n" not in text
    assert ("no known" in text) == content.startswith(b"<html>")


def test_the_size_of_a_tiff_that_pillow_does_not_open_is_known(tmp_path: Path) -> None:
    values = np.zeros((4, 6, 3), np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    assert image_size(tmp_path / "a.tif") == (4, 6)
