# SPDX-License-Identifier: Apache-2.0
"""A small set in ImageNet's layout: ten kinds of coloured stripes, drawn from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

NUM_CLASSES = 10


def stripes(kind: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """One image of a kind: its own direction, width and colour; phase and noise are random."""
    y, x = np.mgrid[:size, :size] / size
    angle, frequency = np.pi * kind / NUM_CLASSES, 2 + 2 * (kind % 3)
    color = np.array([(kind * 67) % 256, (kind * 151) % 256, (kind * 29 + 90) % 256]) / 255
    along = x * np.cos(angle) + y * np.sin(angle)
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * (frequency * along + rng.uniform()))
    mixed = wave[..., None] * color + (1 - wave[..., None]) * (1 - color)
    noisy = mixed + rng.normal(0, 0.08, mixed.shape)
    return (noisy.clip(0, 1) * 255).astype(np.uint8)


def write_class_folders(
    root: Path, *, size: int = 40, train: int = 4, val: int = 2, classes: int = NUM_CLASSES
) -> Path:
    """`train` and `val` JPEG images a class, in root/train/n0000000K and root/val/n0000000K."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for kind in range(classes):
            folder = root / split / f"n{kind:08d}"
            folder.mkdir(parents=True)
            for number in range(count):
                picture = Image.fromarray(stripes(kind, size, rng))
                picture.save(folder / f"{folder.name}_{number}.JPEG", quality=90)
    return root


def break_image(path: Path) -> Path:
    """Cut a file off in the middle, as a broken download is."""
    path.write_bytes(path.read_bytes()[:200])
    return path
