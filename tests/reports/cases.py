# SPDX-License-Identifier: Apache-2.0
"""Small results, image files and specs for the tests of reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from datasets.spec import DatasetSpec, Item
from metrics.confusion import Scores, confusion_matrix
from metrics.result import EvalSummary, ImageResult

SPEC = DatasetSpec(
    name="streets",
    class_names=("road", "car", "sky", "tram"),
    palette=((128, 64, 128), (0, 0, 142), (70, 130, 180), (0, 80, 100)),
    id_to_train_id={0: 255, 7: 0, 26: 1, 23: 2, 31: 3},
    ignore_label=255,
    train_id_to_id=(7, 26, 23, 31),
)
SIZE = (12, 16)


def make_result(name: str, index: int = 0, wrong: float = 0.2, **changes: Any) -> ImageResult:
    """An image with noise, blocky labels with some void, and a share of wrong predictions."""
    rng = np.random.default_rng(index)
    height, width = SIZE
    label = np.kron(rng.integers(0, 3, (3, 4)), np.ones((4, 4))).astype(np.uint8)
    guess = rng.integers(0, 3, SIZE).astype(np.uint8)
    pred = np.where(rng.uniform(size=SIZE) < wrong, guess, label).astype(np.uint8)
    label[:2, :2] = 255
    matrix = confusion_matrix(torch.from_numpy(pred), torch.from_numpy(label), 4)
    content: dict[str, Any] = {
        "name": name,
        "index": index,
        "image": rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8),
        "label": label,
        "pred": pred,
        "prob": rng.uniform(size=SIZE).astype(np.float32),
        "confusion": matrix.numpy(),
        "assets": {
            "attn_05x": rng.uniform(size=(height // 2, width // 2)).astype(np.float32),
            "pred_05x": pred[::2, ::2].copy(),
        },
    }
    return ImageResult(**{**content, **changes})


def make_summary(results: list[ImageResult], **changes: Any) -> EvalSummary:
    """The summary evaluation would give for these results."""
    matrices = [result.confusion for result in results if result.confusion is not None]
    content: dict[str, Any] = {
        "scores": Scores.of(sum(matrices), SPEC.class_names) if matrices else None,
        "loss": 0.5 if matrices else None,
        "num_images": len(results),
        "skipped": 0,
        "seconds": 1.5,
        "unreadable": [],
    }
    return EvalSummary(**{**content, **changes})


def make_items(folder: Path, names: list[str], size: tuple[int, int] = SIZE) -> list[Item]:
    """Black image files of these names."""
    items = []
    for name in names:
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size[::-1]).save(path)
        items.append(Item(name=name, image=path, label=None))
    return items


def alone(value: Any) -> list[Any]:
    """The gathering of one rank."""
    return [value]


def read(path: Path) -> tuple[str, np.ndarray[Any, Any]]:
    """PIL mode and pixels of a file."""
    with Image.open(path) as picture:
        return picture.mode, np.asarray(picture)
