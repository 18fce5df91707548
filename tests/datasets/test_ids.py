# SPDX-License-Identifier: Apache-2.0
"""Label files: what is stored is what counts, and lossy or mixed ones are refused."""

from __future__ import annotations

import itertools
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets import camvid, cityscapes, gtav
from datasets.base import DataError, read_ids, read_label
from datasets.centroids import cache_key, load_or_build
from datasets.spec import DatasetSpec, Item
from datasets.verify import fingerprint, verify_items
from tests.datasets.conftest import save

IDS = np.kron(np.array([[0, 1, 2], [2, 255, 1]]), np.ones((16, 16))).astype(np.uint8)
WIDE = DatasetSpec(
    name="wide",
    class_names=("car", "road"),
    palette=((1, 2, 3), (4, 5, 6)),
    id_to_train_id={26001: 0, 7: 1, 1000: 1, -1: 255},
    ignore_label=255,
    train_id_to_id=(26001, 7),
)


def error_of(path: Path, spec: DatasetSpec | None = None) -> str:
    with pytest.raises(DataError) as raised:
        read_ids(path, spec) if spec is None else read_label(path, spec)
    text = str(raised.value)
    assert "\n" not in text and str(path) in text
    return text


def low_png(path: Path, values: np.ndarray, bits: int) -> Path:
    """Grey PNG of 1, 2 or 4 bits a pixel that holds `values` as they are."""
    height, width = values.shape
    rows = np.zeros((height, -(-width * bits // 8) * 8 // bits), np.uint8)
    rows[:, :width] = values
    shifts = 8 - bits * (1 + np.arange(8 // bits))
    packed = (rows.reshape(height, -1, 8 // bits) << shifts).sum(-1).astype(np.uint8)
    lines = b"".join(b"\0" + row.tobytes() for row in packed)
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(content)) + kind + content
            + struct.pack(">I", zlib.crc32(kind + content))
            for kind, content in chunks
        )
    )  # fmt: skip
    return path


LOSSY = {
    "a.jpg": {"quality": 95},
    "a.jp2": {"irreversible": True},
    "a.j2k": {"irreversible": True},
    "a.webp": {"quality": 90},
    "a.avif": {},
    "a.tif": {"compression": "jpeg"},
}


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_labels_are_refused_by_every_set(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.fromarray(IDS).save(path, **LOSSY[name])
    colors = replace(camvid.SPEC, color_to_id={(0, 0, 0): 0})
    for spec in (cityscapes.SPEC, camvid.SPEC, colors):
        text = error_of(path, spec)
        assert "changes ids" in text and "PNG" in text


def test_a_lossy_animation_inside_of_a_webp_is_found(tmp_path: Path) -> None:
    frames = [Image.fromarray(IDS).convert("RGB")] * 2
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], quality=80)
    assert "lossy WebP" in error_of(tmp_path / "a.webp")


@pytest.mark.parametrize("name", ["a.png", "a.jp2", "a.bmp", "a.tif", "a.gif"])
def test_lossless_labels_are_read(tmp_path: Path, name: str) -> None:
    Image.fromarray(IDS % 4).save(tmp_path / name)
    assert (read_ids(tmp_path / name) == IDS % 4).all()


def test_a_lossless_webp_of_colours_is_read(tmp_path: Path) -> None:
    pixels = np.stack([IDS] * 3, -1)
    Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=True)
    spec = replace(gtav.SPEC, color_to_id={(1, 1, 1): 3})
    assert (read_label(tmp_path / "a.webp", spec) == np.where(IDS == 1, 3, 255)).all()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_gives_the_numbers_that_are_stored(tmp_path: Path, bits: int) -> None:
    values = np.arange(26, dtype=np.uint8).reshape(2, 13) % (1 << bits)
    assert (read_ids(low_png(tmp_path / "a.png", values, bits)) == values).all()
    if bits > 1:
        stored = Image.fromarray(values * (255 // ((1 << bits) - 1)))
        stored.save(tmp_path / "b.png", bits=bits)
        assert (read_ids(tmp_path / "b.png") == values).all()


def labelled(tmp_path: Path, labels: list[Path]) -> list[Item]:
    items = []
    for number, label in enumerate(labels):
        with Image.open(label) as picture:
            image = save(tmp_path / f"i{number}.png", np.zeros((*picture.size[::-1], 3), np.uint8))
        items.append(Item(name=f"i{number}", image=image, label=label))
    return items


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_labels_of_few_bits_do_not_mix_with_others(tmp_path: Path, bits: int) -> None:
    values = np.zeros((4, 6), np.uint8)
    values[1] = 1
    low = [low_png(tmp_path / f"low{number}.png", values, bits) for number in range(2)]
    full = save(tmp_path / "full.png", values)
    verify_items(labelled(tmp_path, low), camvid.SPEC, tmp_path / "cache", 2)
    verify_items(labelled(tmp_path, [full]), camvid.SPEC, tmp_path / "cache", 2)
    with pytest.raises(DataError) as raised:
        verify_items(labelled(tmp_path, [full, *low]), camvid.SPEC, tmp_path / "cache", 2)
    text = str(raised.value)
    for words in (str(low[0]), f"grey of {bits} bit", "2 of 3 labels", str(full), "8 bit"):
        assert words in text


def test_palette_labels_of_few_bits_mix_with_others(tmp_path: Path) -> None:
    values = np.zeros((4, 6), np.uint8)
    picture = Image.fromarray(values)
    picture.putpalette([0, 0, 0, 9, 9, 9])
    picture.save(tmp_path / "p.png", bits=1)
    labels = [tmp_path / "p.png", save(tmp_path / "full.png", values)]
    verify_items(labelled(tmp_path, labels), camvid.SPEC, tmp_path / "cache", 2)


def wide_label(path: Path, kind: str) -> Path:
    values = np.array([[26001, 7], [1000, 26001]])
    if kind.startswith("int"):
        values = np.append(values, [[-1, -1]], 0)
    if path.suffix == ".png":
        assert cv2.imwrite(str(path), values.astype(kind))
    else:
        tifffile.imwrite(path, values.astype(kind), byteorder="<")
    return path


@pytest.mark.parametrize(
    ("name", "kind"), [("a.png", "uint16"), *(("a.tif", k) for k in ("uint16", "int16", "int32"))]
)
def test_ids_beyond_8_bit_and_below_zero_are_mapped(tmp_path: Path, name: str, kind: str) -> None:
    label = read_label(wide_label(tmp_path / name, kind), WIDE)
    assert label.dtype == np.uint8
    assert label[:2].tolist() == [[0, 1], [1, 0]]
    assert (label[2:] == 255).all()


def test_signs_and_large_numbers_are_kept(tmp_path: Path) -> None:
    for values in (np.array([[-1, 5]], np.int8), np.array([[4_000_000_000, 5]], np.uint32)):
        tifffile.imwrite(tmp_path / "a.tif", values)
        assert read_ids(tmp_path / "a.tif").tolist() == values.tolist()
    spec = replace(WIDE, id_to_train_id={4_000_000_000: 0, 5: 1, -7: 255})
    assert read_label(tmp_path / "a.tif", spec).tolist() == [[0, 1]]


def test_ids_between_those_of_a_wide_map_are_named(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([[7, 8, 8], [-2, 7, 70000]], np.int32))
    text = error_of(tmp_path / "a.tif", WIDE)
    assert "ids -2 (1 pixel), 8 (2 pixels), 70000 (1 pixel) not in the classes of wide" in text
    spread = replace(WIDE, id_to_train_id={7: 0, 4_000_000_000: 1})
    assert "8 (2 pixels)" in error_of(tmp_path / "a.tif", spread)


def test_8_bit_labels_of_a_set_with_wide_ids_are_read(tmp_path: Path) -> None:
    assert read_label(save(tmp_path / "a.png", np.full((2, 2), 7, np.uint8)), WIDE).min() == 1


def test_floating_point_labels_are_refused_by_name(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((2, 3), np.float32))
    assert "floating point" in error_of(tmp_path / "a.tif")


def test_caches_know_ids_beyond_8_bit_and_colours(tmp_path: Path) -> None:
    items = labelled(tmp_path, [wide_label(tmp_path / "a.tif", "int32")])
    specs = [
        WIDE,
        replace(WIDE, id_to_train_id={26001: 1, 7: 0, 1000: 0, -1: 255}),
        replace(WIDE, color_to_id={(1, 2, 3): 7}),
        replace(WIDE, color_to_id={(1, 2, 3): 26001}),
        replace(WIDE, color_to_id={(1, 2, 3): 7}, exact_colors=True),
    ]
    for make in (lambda spec: fingerprint(items, spec), lambda spec: cache_key(items, spec, 8)):
        keys = [make(spec) for spec in specs]
        assert all(first != second for first, second in itertools.combinations(keys, 2))
    stored = [replace(items[0], turned=False)]
    assert fingerprint(stored, WIDE) != fingerprint(items, WIDE)
    ranged = [replace(items[0], levels=(0.0, 4095.0))]
    assert fingerprint(ranged, WIDE) != fingerprint(items, WIDE)


def test_class_uniform_points_of_wide_ids(tmp_path: Path) -> None:
    items = labelled(tmp_path, [wide_label(tmp_path / "a.tif", "int32")])
    points = load_or_build(items, WIDE, 1, tmp_path / "cache", 1)
    assert {name: len(found) for name, found in points.items()} == {0: 2, 1: 2}
