# SPDX-License-Identifier: Apache-2.0
"""Images as people hold them, as pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.decode import read_image
from deploy.pixels import as_picture, name_of
from runtime.errors import UserError
from tests.deploy.conftest import scene

GREY = scene()[..., 0]
DEEP = np.linspace(0, 65535, 64 * 96).reshape(64, 96).astype(np.uint16)


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        (scene(), scene()),
        (np.dstack([scene(), GREY]), scene()),
        (GREY, np.dstack([GREY] * 3)),
        (GREY[..., None], np.dstack([GREY] * 3)),
        (scene()[:, ::-1], scene()[:, ::-1]),
        (torch.from_numpy(scene()), scene()),
        (torch.from_numpy(scene()).permute(2, 0, 1), scene()),
        (torch.from_numpy(GREY), np.dstack([GREY] * 3)),
        (Image.fromarray(scene()), scene()),
        (Image.fromarray(GREY), np.dstack([GREY] * 3)),
        (Image.fromarray(np.dstack([scene(), GREY])), scene()),
        (Image.fromarray(DEEP), np.dstack([(DEEP >> 8).astype(np.uint8)] * 3)),
    ],
)
def test_all_that_notebooks_hold_become_the_same_pixels(source: Any, wanted: np.ndarray) -> None:
    found = as_picture(source)
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, wanted)


def test_pixels_are_copied() -> None:
    own = scene()
    found = as_picture(own)
    own[:] = 0
    assert found.any()


def test_files_and_their_pil_images_are_read_alike(photos: Path) -> None:
    for path in photos.rglob("*.png"):
        np.testing.assert_array_equal(as_picture(path), read_image(path))
        if path.stem != "deep":  # Pillow has no colours of 16 bits
            np.testing.assert_array_equal(as_picture(Image.open(path)), read_image(path))
    turned = as_picture(Image.open(photos / "turned.jpg"))
    assert turned.shape == as_picture(str(photos / "turned.jpg")).shape == (96, 64, 3)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (np.zeros((4, 4, 3)), r"float64 \(4, 4, 3\).*255"),
        (np.zeros((4, 4, 3), np.uint16), r"uint16 \(4, 4, 3\)"),
        (np.zeros((3, 4, 5), np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((4, 4, 7), np.uint8), r"\(4, 4, 7\)"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros(4, np.uint8), r"\(4\)"),
        (torch.zeros(3, 4, 4), r"torch\.float32 \(3, 4, 4\)"),
        (torch.zeros(3, 4, 4, dtype=torch.bfloat16), "bfloat16"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), r"\(1, 3, 4, 4\)"),
        (Image.new("F", (4, 4)), "mode F"),
        (None, "not a NoneType"),
        ([[1, 2]], "not a list"),
        ("no such file.png", "No such file"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(source: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        as_picture(source)
    assert "\n" not in str(caught.value)


def test_a_truncated_pil_image_names_its_file(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes((photos / "odd.jpg").read_bytes()[:900])
    with Image.open(path) as image, pytest.raises(UserError, match=r"cut\.jpg"):
        as_picture(image)


def test_messages_name_the_file_or_the_number(photos: Path) -> None:
    assert name_of(photos / "odd.jpg", 3) == str(photos / "odd.jpg")
    with Image.open(photos / "odd.jpg") as image:
        assert name_of(image, 3) == str(photos / "odd.jpg")
    assert name_of(scene(), 3) == "image 3"
