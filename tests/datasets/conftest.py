# SPDX-License-Identifier: Apache-2.0
"""A Cityscapes-like set of a few flat images, to be damaged by the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CITIES = {"train": ("alba", "bonn"), "val": ("cork",), "test": ("dole",)}
SaveLabel = Callable[[Path, np.ndarray], None]


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def cities(tmp_path: Path) -> Path:
    """Two frames a city, 24 x 32, label 7 (road) above and 23 (sky) below."""
    root = tmp_path / "cities"
    rng = np.random.default_rng(0)
    ids = np.full((24, 32), 7, np.uint8)
    ids[12:] = 23
    for split, names in CITIES.items():
        for city in names:
            for number in range(2):
                frame = f"{split}/{city}/{city}_{number:06d}_000019"
                image = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
                images = root / "leftImg8bit_trainvaltest" / "leftImg8bit"
                save(images / f"{frame}_leftImg8bit.png", image)
                labels = root / "gtFine_trainvaltest" / "gtFine"
                save(labels / f"{frame}_gtFine_labelIds.png", ids)
    return root


def drawn(seed: int, shape: tuple[int, int], low: int, high: int) -> np.ndarray:
    """Blocks of 8 pixels of random values low..high-1, (8 * H, 8 * W) uint8."""
    values = np.random.default_rng(seed).integers(low, high, shape)
    return np.kron(values, np.ones((8, 8))).astype(np.uint8)


@pytest.fixture
def bdd_root(tmp_path: Path) -> Path:
    """BDD100K: JPEGs in flat folders, train ids and 255; 32 x 56."""
    root = tmp_path / "bdd100k"
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for number in range(count):
            name = f"{number:08x}-{0xABC + len(split):08x}"
            ids = drawn(number + 10 * len(split), (4, 7), 0, 20)
            ids[ids == 19] = 255
            save(root / "images" / split / f"{name}.jpg", np.stack([ids * 9] * 3, -1))
            if split != "test":
                save(root / "labels" / split / f"{name}_train_id.png", ids)
    return root


@pytest.fixture
def gtav_root(tmp_path: Path) -> Path:
    """GTA V: folders of frames, labels in the colours of Cityscapes, some of no class."""
    from datasets.cityscapes import SPEC

    root = tmp_path / "gtav"
    colors = np.array([*SPEC.palette, (153, 153, 154), (0, 0, 143)], np.uint8)
    for split, folders in (("train", ("01", "02")), ("val", ("03",))):
        for folder in folders:
            for number in range(2):
                name = f"{split}/{folder}/{folder}{number:03d}.png"
                ids = drawn(number + 100 * int(folder), (4, 6), 0, 21)
                save(root / "images" / name, np.stack([ids * 11] * 3, -1))
                save(root / "labels" / name, colors[ids])
    return root


@pytest.fixture(scope="session")
def kitti_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """KITTI: 200 frames of two sizes with raw ids of Cityscapes, two test frames."""
    root = tmp_path_factory.mktemp("kitti")
    for number in range(200):
        ids = drawn(number, (2, 5 + number % 2), 0, 34)
        save(root / "training" / "image_2" / f"{number:06d}_10.png", np.stack([ids * 7] * 3, -1))
        save(root / "training" / "semantic" / f"{number:06d}_10.png", ids)
    for number in range(2):
        blank = np.full((16, 40, 3), number, np.uint8)
        save(root / "testing" / "image_2" / f"{number:06d}_10.png", blank)
    return root
