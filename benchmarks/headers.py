# SPDX-License-Identifier: Apache-2.0
"""Size and orientation of a 2048 x 1024 image: Pillow's answer against ours.

    python -m benchmarks.headers

Before a run the size of every image is compared with that of its label. Pillow decodes a PNG
before it answers for the orientation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks.measure import print_table, time_in_turn
from datasets.headers import image_size

HEIGHT, WIDTH = 1024, 2048
ORIENTATION = 0x0112
CALLS = 20  # of ours in one round, for the clock is coarse


def write_files(root: Path) -> dict[str, Path]:
    """A noisy frame as PNG in many chunks (libpng) and few (Pillow), and as JPEG."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (16, 32, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    pixels = (np.asarray(smooth) + rng.normal(0, 3, smooth.shape)).clip(0, 255).astype(np.uint8)
    files = {"PNG, libpng": root / "a.png", "PNG, Pillow": root / "b.png", "JPEG": root / "c.jpg"}
    cv2.imwrite(str(files["PNG, libpng"]), pixels)
    Image.fromarray(pixels).save(files["PNG, Pillow"], compress_level=1)
    Image.fromarray(pixels).save(files["JPEG"], quality=92)
    return files


def size_by_pillow(path: Path) -> tuple[int, int]:
    """(H, W) as Pillow says, turned."""
    with Image.open(path) as image:
        width, height = image.size
        turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def several(path: Path) -> None:
    """Ours, often enough to be measured."""
    for _ in range(CALLS):
        image_size(path)


def main() -> None:
    """Compare, measure, print."""
    with tempfile.TemporaryDirectory() as folder:
        for name, path in write_files(Path(folder)).items():
            assert size_by_pillow(path) == image_size(path) == (HEIGHT, WIDTH)
            sides: dict[str, Callable[[], object]] = {
                "Pillow": partial(size_by_pillow, path),
                "ours": partial(several, path),
            }
            seconds = time_in_turn(sides, rounds=10)
            seconds["ours"] /= CALLS
            print_table(f"size of an image, {name}", seconds)


if __name__ == "__main__":
    main()
