# SPDX-License-Identifier: Apache-2.0
"""Values become 0..255 by the type of the samples; what has no declared range is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.base import DataError, read_image

DEEP = np.random.default_rng(0).integers(0, 1 << 16, (12, 17, 3), dtype=np.uint16)


def error_of(path: Path, **options: object) -> str:
    with pytest.raises(DataError) as raised:
        read_image(path, **options)  # type: ignore[arg-type]
    text = str(raised.value)
    assert "\n" not in text and str(path) in text
    return text


def deep_file(path: Path, pixels: np.ndarray) -> Path:
    """16-bit samples in the format that the name says, compressed or planar as its stem says."""
    if path.suffix == ".tif":
        options: dict[str, object] = {"photometric": "rgb" if pixels.ndim == 3 else "minisblack"}
        if "planar" in path.stem:
            options["planarconfig"] = "separate"
            pixels = np.moveaxis(pixels, -1, 0)
        if "deflate" in path.stem:
            options["compression"] = "zlib"
        if "tiled" in path.stem:
            options["tile"] = (16, 16)
        tifffile.imwrite(path, pixels, byteorder=">" if "big" in path.stem else "<", **options)
    else:
        bgr = pixels[..., ::-1] if pixels.ndim == 3 else pixels
        options = [cv2.IMWRITE_TIFF_COMPRESSION, 5] if path.suffix == ".tiff" else []  # LZW
        assert cv2.imwrite(str(path), bgr, options)
    return path


FILES = (
    "a.png", "a.tif", "big.tif", "planar.tif", "planar_big.tif", "planar_deflate.tif",
    "tiled_deflate.tif", "lzw.tiff",
)  # fmt: skip


@pytest.mark.parametrize("most", [65535, 255])
@pytest.mark.parametrize("name", FILES)
def test_of_16_bits_the_upper_eight_are_kept_whatever_the_image_holds(
    tmp_path: Path, name: str, most: int
) -> None:
    pixels = DEEP & np.uint16(most)
    assert (read_image(deep_file(tmp_path / name, pixels)) == pixels >> 8).all()


@pytest.mark.parametrize("most", [65535, 255])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "big.tif", "lzw.tiff", "a.pgm"])
def test_so_is_it_for_grey(tmp_path: Path, name: str, most: int) -> None:
    pixels = DEEP[..., 0] & np.uint16(most)
    image = read_image(deep_file(tmp_path / name, pixels))
    assert (image == (pixels >> 8)[..., None]).all() and image.shape == (12, 17, 3)


def test_deep_alpha_is_dropped(tmp_path: Path) -> None:
    pixels = np.concatenate([DEEP, DEEP[..., :1]], -1)
    assert cv2.imwrite(str(tmp_path / "a.png"), pixels[..., [2, 1, 0, 3]])
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    for name in ("a.png", "a.tif"):
        assert (read_image(tmp_path / name) == DEEP >> 8).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "big.tif", "planar.tif", "tiled_deflate.tif"])
def test_a_declared_range_scales_deep_samples(tmp_path: Path, name: str) -> None:
    pixels = DEEP % 4096
    wanted = (pixels / 4095 * 255 + 0.5).astype(np.uint8)
    path = deep_file(tmp_path / name, pixels)
    assert (read_image(path, levels=(0, 4095)) == wanted).all()
    assert read_image(path, levels=(100, 200)).min() == 0


def test_a_declared_range_is_never_passed_over(tmp_path: Path) -> None:
    path = deep_file(tmp_path / "a.png", DEEP)
    path.write_bytes(path.read_bytes() + bytes(100))  # OpenCV does not read it, Pillow does
    assert (read_image(path) == DEEP >> 8).all()
    assert "range: has no effect" in error_of(path, levels=(0, 4095))


def test_a_declared_range_leaves_8_bit_alone(tmp_path: Path) -> None:
    pixels = (DEEP >> 8).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", levels=(0, 4095)) == pixels).all()


@pytest.mark.parametrize("bands", [1, 3])
def test_floating_point_means_0_to_1(tmp_path: Path, bands: int) -> None:
    values = (DEEP[..., :bands].squeeze() / 65535).astype(np.float32) * 0.4  # no image has 1
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, photometric="rgb" if bands == 3 else "minisblack")
    wanted = (values.reshape(12, 17, bands).astype(float) * 255 + 0.5).astype(np.uint8)
    assert (read_image(path) == wanted).all()


def test_floating_point_of_another_range_is_refused_until_it_is_declared(tmp_path: Path) -> None:
    values = (DEEP / 257).astype(np.float32)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, photometric="rgb")
    text = error_of(path)
    assert "floating point" in text and "range: [low, high]" in text
    assert (read_image(path, levels=(0, 255)) == (values.astype(float) + 0.5).astype(int)).all()


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    values = np.full((4, 5), 0.5, np.float32)
    values[1, 2] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", values)
    assert "NaN" in error_of(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["uint32", "int32", "int16", "int8", "float16", "float64"])
def test_types_without_a_meaning_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((4, 5), kind))
    text = error_of(path)
    words = {"u": "unsigned integers", "i": "signed integers", "f": "floating point"}
    assert f"{8 * np.dtype(kind).itemsize} bits, {words[kind[0]]}" in text
    assert "no known image format" not in text


@pytest.mark.parametrize("kind", ["uint32", "int32", "int16", "int8", "float16", "float64"])
@pytest.mark.parametrize("bands", [1, 3])
def test_a_declared_range_reads_them(tmp_path: Path, kind: str, bands: int) -> None:
    values = np.array([[-1 if kind[0] != "u" else 0, 50], [100, 120]], kind)
    if bands == 3:
        values = np.stack([values] * 3, -1)
    photometric = "rgb" if bands == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", values, photometric=photometric)
    image = read_image(tmp_path / "a.tif", levels=(0, 100))
    for band in range(3):
        assert image[..., band].tolist() == [[0, 128], [255, 255]]


def test_grey_of_16_bit_with_alpha_or_a_transparent_value_is_read(tmp_path: Path) -> None:
    grey = DEEP[..., 0]
    both = np.stack([grey, DEEP[..., 1]], -1).astype(">u2")
    tail = (DEEP.shape[1], DEEP.shape[0], 16)
    for color, pixels, extra in ((4, both, b""), (0, grey.astype(">u2"), b"\0\7")):
        lines = b"".join(b"\0" + row.tobytes() for row in pixels)
        path = tmp_path / f"{color}.png"
        chunks = [(b"IHDR", struct.pack(">IIBBBBB", *tail, color, 0, 0, 0))]
        chunks += [(b"tRNS", extra)] if extra else []
        chunks += [(b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(map(png_chunk, chunks)))
        assert (read_image(path) == (grey >> 8)[..., None]).all()


def png_chunk(chunk: tuple[bytes, bytes]) -> bytes:
    kind, content = chunk
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def test_a_range_reads_unsigned_numbers_beyond_the_signed_ones(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 4000000000]], np.uint32))
    assert read_image(tmp_path / "a.tif", levels=(0, 4e9))[..., 0].tolist() == [[0, 255]]


BANDS = {
    "rgb_and_infrared": ((12, 17, 4), {"photometric": "rgb", "extrasamples": ["unspecified"]}, 4),
    "rgb_and_two": ((12, 17, 5), {"photometric": "rgb"}, 5),
    "four_of_grey": ((12, 17, 4), {"photometric": "minisblack", "planarconfig": "contig"}, 4),
    "three_of_grey": ((12, 17, 3), {"photometric": "minisblack", "planarconfig": "contig"}, 3),
    "seven_planes": ((7, 12, 17), {"photometric": "minisblack", "planarconfig": "separate"}, 7),
}


@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("case", BANDS)
def test_more_bands_than_colours_are_refused_with_their_number(
    tmp_path: Path, case: str, depth: str
) -> None:
    shape, options, bands = BANDS[case]
    tifffile.imwrite(tmp_path / "a.tif", np.ones(shape, depth), **options)
    text = error_of(tmp_path / "a.tif")
    assert f"{bands} bands" in text and "RGB" in text
    assert "no known image format" not in text


def test_planes_of_8_bit_and_an_inverted_grey_are_read(tmp_path: Path) -> None:
    pixels = (DEEP >> 8).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "p.tif", pixels.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"
    )
    assert (read_image(tmp_path / "p.tif") == pixels).all()
    for values in (pixels[..., 0], DEEP[..., 0]):
        tifffile.imwrite(tmp_path / "w.tif", values, photometric="miniswhite")
        wanted = 255 - (values if values.dtype == np.uint8 else values >> 8)
        assert (read_image(tmp_path / "w.tif") == wanted[..., None]).all()


def test_a_compression_that_no_library_reads_is_one_line(tmp_path: Path) -> None:
    path = deep_file(tmp_path / "lzw.tiff", DEEP)
    text = error_of(path, levels=(0, 4095))
    assert "compression" in text and "deflate" in text


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_a_turned_tiff_of_any_depth_is_turned_once(
    tmp_path: Path, depth: str, orientation: int
) -> None:
    pixels = (DEEP if depth == "uint16" else DEEP >> 8).astype(depth)
    tag = [(274, "H", 1, orientation, False)]
    shown = DEEP >> 8
    for name, options in (("p", {"planarconfig": "separate"}), ("c", {}), ("g", {})):
        data = pixels[..., 0] if name == "g" else pixels
        data = np.moveaxis(data, -1, 0) if name == "p" else data
        photometric = "minisblack" if name == "g" else "rgb"
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, data, photometric=photometric, extratags=tag, **options)
        wanted = np.rot90(shown[..., :1] if name == "g" else shown, 2 if orientation == 3 else -1)
        assert (read_image(path) == wanted).all()
