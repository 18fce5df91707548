# SPDX-License-Identifier: Apache-2.0
"""A Cityscapes-like set of a few flat pictures, to be damaged by the tests."""

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
