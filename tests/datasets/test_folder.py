# SPDX-License-Identifier: Apache-2.0
"""A folder of anything: what counts as an image and how it is called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.base import DataError
from datasets.folder import list_items, video_names
from tests.datasets.conftest import save

PIXELS = np.zeros((8, 8, 3), np.uint8)


def test_sub_folders_are_kept_and_other_files_passed_over(tmp_path: Path) -> None:
    for name in ("b.jpg", "sub/deep/a.PNG", "sub/c.webp", ".hidden/x.png", "._b.jpg"):
        save(tmp_path / name, PIXELS)
    (tmp_path / "README.md").write_text("notes")
    items = list_items(tmp_path)
    assert [item.name for item in items] == ["b", "sub/c", "sub/deep/a"]
    assert all(item.label is None for item in items)


def test_names_stay_unique(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.c.png"):
        save(tmp_path / name, PIXELS)
    assert [item.name for item in list_items(tmp_path)] == ["a_jpg", "a_png", "b.c"]


def test_empty_and_missing_folders_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no images"):
        list_items(tmp_path)
    with pytest.raises(DataError, match="--eval_folder .*no such folder"):
        list_items(tmp_path / "absent")


def test_names_of_videos_stay_apart_from_everything_else() -> None:
    root = Path("/in")
    videos = [root / name for name in ("x.mp4", "x_mp4.mov", "y.mp4")]
    images = ["x", "x_mp4_mp4/000000", "z"]
    assert video_names(videos, root, images) == ["x_mp4_mp4_mp4", "x_mp4", "y"]


def test_the_flag_that_named_the_folder_is_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="^--calibrate .* holds no images"):
        list_items(tmp_path, asked="--calibrate ")
