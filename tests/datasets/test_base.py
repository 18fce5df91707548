# SPDX-License-Identifier: Apache-2.0
"""Reading images and labels, and the one line for each kind of broken file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets import camvid, cityscapes
from datasets.base import DataError, SegmentationDataset, image_size, read_image, read_label
from datasets.samplers import Draw
from datasets.spec import Item
from tests.datasets.conftest import save
from transforms.sample import Sample

GRADIENT = np.stack(np.meshgrid(np.arange(40), np.arange(30), [9]), -1)[:, :, 0].astype(np.uint8)


def error_of(call: object, *args: object) -> str:
    with pytest.raises(DataError) as raised:
        call(*args)  # type: ignore[operator]
    text = str(raised.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp", "ppm"])
def test_lossless_formats_give_the_same_pixels(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    options = {"lossless": True} if ending == "webp" else {}
    Image.fromarray(GRADIENT).save(path, **options)
    assert (read_image(path) == GRADIENT).all()


def test_grey_is_repeated(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "g.png", GRADIENT[..., 0]))
    assert image.shape == (30, 40, 3)
    assert (image == GRADIENT[..., :1]).all()


def test_alpha_is_dropped_and_colours_are_kept(tmp_path: Path) -> None:
    alpha = np.full((30, 40, 1), 77, np.uint8)
    path = save(tmp_path / "a.png", np.concatenate([GRADIENT, alpha], -1))
    assert (read_image(path) == GRADIENT).all()


def test_palette_image_gives_colours(tmp_path: Path) -> None:
    Image.fromarray(GRADIENT).quantize(256).save(tmp_path / "p.png")
    assert np.abs(read_image(tmp_path / "p.png").astype(int) - GRADIENT).mean() < 8


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_is_scaled(tmp_path: Path, ending: str, channels: int) -> None:
    deep = (GRADIENT[..., :channels].astype(np.uint16) * 257).squeeze()
    path = tmp_path / f"d.{ending}"
    assert cv2.imwrite(str(path), deep[..., ::-1] if channels == 3 else deep)
    assert np.abs(read_image(path).astype(int) - GRADIENT[..., :channels]).max() <= 1


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_exif_rotation_is_applied(
    tmp_path: Path, orientation: int, turns: int, ending: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"r.{ending}"
    smooth = GRADIENT * np.array([6, 8, 1], np.uint8)
    Image.fromarray(smooth).save(path, exif=exif, quality=98)
    image = read_image(path).astype(int)
    wanted = np.rot90(smooth, turns)
    assert image.shape == wanted.shape
    assert np.abs(image - wanted).mean() < 5
    assert image_size(path) == wanted.shape[:2]
    stored = read_image(path, turned=False).astype(int)
    assert stored.shape == smooth.shape and np.abs(stored - smooth).mean() < 5


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp", "bmp"])
def test_truncated_image_is_named(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"torn.{ending}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert str(path) in error_of(read_image, path)


def test_jpeg_overwritten_before_its_end_is_named_where_pillow_refuses_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "o.jpg"
    noise = rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, quality=90)
    data, block = path.read_bytes(), rng.integers(0, 256, 4096, dtype=np.uint8).tobytes()
    assert read_image(path).shape == noise.shape
    path.write_bytes(data[:9000] + block + data[9000 + len(block) :])
    assert str(path) in error_of(read_image, path)


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "empty"), (b"no image", "no known image format")]
)
def test_file_that_is_no_image_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    assert words in error_of(read_image, path)


def test_missing_image_is_named(tmp_path: Path) -> None:
    assert "No such file" in error_of(read_image, tmp_path / "absent.png")


def test_label_ids_become_train_ids(tmp_path: Path) -> None:
    path = save(tmp_path / "l.png", np.array([[7, 33], [0, 29]], np.uint8))
    assert read_label(path, cityscapes.SPEC).tolist() == [[0, 18], [255, 255]]


def test_palette_label_gives_its_indices(tmp_path: Path) -> None:
    ids = np.array([[0, 1], [10, 11]], np.uint8)
    picture = Image.fromarray(ids)
    picture.putpalette(camvid.SPEC.flat_palette())
    picture.save(tmp_path / "l.png")
    assert read_label(tmp_path / "l.png", camvid.SPEC).tolist() == [[0, 1], [10, 255]]


def test_16_bit_label_with_small_ids_is_read(tmp_path: Path) -> None:
    path = tmp_path / "l.png"
    cv2.imwrite(str(path), np.array([[3, 4]], np.uint16))
    assert read_label(path, camvid.SPEC).tolist() == [[3, 4]]


def test_unknown_ids_are_named_with_their_pixels(tmp_path: Path) -> None:
    ids = np.full((10, 10), 7, np.uint8)
    ids[0, :3], ids[1, :5] = 77, 200
    path = save(tmp_path / "l.png", ids)
    text = error_of(read_label, path, cityscapes.SPEC)
    assert str(path) in text
    assert "77 (3 pixels), 200 (5 pixels)" in text


def test_16_bit_unknown_id_is_named(tmp_path: Path) -> None:
    path = tmp_path / "l.png"
    cv2.imwrite(str(path), np.array([[7, 26001]], np.uint16))
    assert "26001 (1 pixel)" in error_of(read_label, path, cityscapes.SPEC)


def test_rgb_mask_is_recognised(tmp_path: Path) -> None:
    path = save(tmp_path / "l.png", GRADIENT)
    assert "colours (mode RGB)" in error_of(read_label, path, cityscapes.SPEC)


def test_binary_mask_is_recognised(tmp_path: Path) -> None:
    ids = np.zeros((4, 4), np.uint8)
    ids[1] = 255
    text = error_of(read_label, save(tmp_path / "l.png", ids), cityscapes.SPEC)
    assert "binary mask" in text
    assert "255 (4 pixels)" in text


def test_truncated_label_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 11, (64, 64), dtype=np.uint8)
    path = save(tmp_path / "l.png", noise)
    path.write_bytes(path.read_bytes()[:300])
    assert str(path) in error_of(read_label, path, camvid.SPEC)


def test_size_mismatch_names_both_files_and_sizes(tmp_path: Path) -> None:
    image = save(tmp_path / "i.png", GRADIENT)
    label = save(tmp_path / "l.png", np.zeros((20, 25), np.uint8))
    dataset = SegmentationDataset([Item(name="i", image=image, label=label)], camvid.SPEC)
    text = error_of(dataset.__getitem__, 0)
    for word in (str(image), "40x30", str(label), "25x20"):
        assert word in text


def shifted(sample: Sample, rng: np.random.Generator) -> Sample:
    sample.image = np.roll(sample.image, int(rng.integers(1, 30)), axis=1)
    return sample


def test_sample_is_a_pure_function_of_its_draw(tmp_path: Path) -> None:
    image = save(tmp_path / "i.png", GRADIENT)
    items = [Item(name="i", image=image, label=None)]
    dataset = SegmentationDataset(items, camvid.SPEC, shifted)
    draw, other = Draw(0, (3, 4), (1, 2, 3)), Draw(0, None, (1, 2, 4))
    assert (dataset[draw].image == dataset[draw].image).all()
    assert (dataset[draw].image != dataset[other].image).any()
    assert dataset[draw].centroid == (3, 4)
    assert dataset[0].label is None


def test_labels_can_stay_unread(tmp_path: Path) -> None:
    image = save(tmp_path / "i.png", GRADIENT)
    items = [Item(name="i", image=image, label=tmp_path / "absent.png")]
    assert SegmentationDataset(items, camvid.SPEC, check_labels=False)[0].label is None
