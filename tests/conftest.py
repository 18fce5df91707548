# SPDX-License-Identifier: Apache-2.0
"""What every test starts from: no local settings, a fresh configuration, quiet threads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from PIL import Image

import config
from datasets.synthetic import ScenePlan, write_synthetic
from settings import sources


@pytest.fixture(autouse=True)
def fresh_config(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither `paths.yml` nor HISEG_ variables of this machine; an unread `cfg`, then as before."""
    for name in [name for name in os.environ if name.startswith(sources.ENV_PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sources, "PATHS_FILE", "paths-of-no-test.yml")
    before = dict(vars(config.cfg))
    fresh = config.Config()
    vars(config.cfg).update(vars(fresh))
    yield
    vars(config.cfg).clear()
    vars(config.cfg).update(before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped, with the reason, where there is no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def street_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic street set in Cityscapes layout, written once a test session."""
    root = tmp_path_factory.mktemp("streets")
    write_synthetic(root, ScenePlan(size=(64, 128), train=8, val=4, test=2, seed=0))
    return root


@pytest.fixture(scope="session")
def camvid_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature of CamVid in its real layout: pair lists, images by stem, void 11."""
    root = tmp_path_factory.mktemp("camvid")
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        lines = []
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir()
        for index in range(count):
            label = np.kron(rng.integers(0, 12, (4, 6)), np.ones((16, 16))).astype(np.uint8)
            image = np.stack([label * 20, 255 - label * 20, label * 7], -1).astype(np.uint8)
            Image.fromarray(image).save(root / split / f"{split}{index}.jpg")
            Image.fromarray(label).save(root / f"{split}annot" / f"{split}{index}.png")
            lines.append(f"{split}/{split}{index}.jpg {split}annot/{split}{index}.png")
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="session")
def mapillary_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature of Mapillary Vistas: 66 labels in config.json, JPEGs of several sizes."""
    root = tmp_path_factory.mktemp("mapillary")
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (66, 3)).tolist()
    labels = [
        {"name": f"thing--{number}", "readable": f"Thing No {number}", "color": color}
        for number, color in enumerate(palette)
    ]
    labels[65]["readable"] = "Unlabeled"
    (root / "config.json").write_text(json.dumps({"version": "1.1", "labels": labels}))
    for split, count in (("training", 4), ("validation", 2), ("testing", 1)):
        (root / split / "images").mkdir(parents=True)
        (root / split / "labels").mkdir()
        for index in range(count):
            shape = (4 + index % 2, 6)
            ids = np.kron(rng.integers(0, 66, shape), np.ones((16, 16))).astype(np.uint8)
            image = np.stack([ids * 3, 255 - ids * 3, ids], -1).astype(np.uint8)
            Image.fromarray(image).save(root / split / "images" / f"key{index}_x-Y.jpg")
            if split != "testing":
                label = Image.fromarray(ids)
                label.putpalette([value for color in palette for value in color])
                label.save(root / split / "labels" / f"key{index}_x-Y.png")
    return root


def write_pair(image_path: Path, label_path: Path | None, ids: np.ndarray) -> None:
    """A JPEG whose colours follow `ids`, and the ids as a grey PNG."""
    image = np.stack([ids, 255 - ids, ids // 2], -1).astype(np.uint8)
    image_path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(image_path)
    if label_path is not None:
        label_path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids).save(label_path)


@pytest.fixture(scope="session")
def ade20k_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature of ADE20K: images of several sizes, ids 0..150, test images unlabelled."""
    root = tmp_path_factory.mktemp("ade") / "ADEChallengeData2016"
    rng = np.random.default_rng(0)
    counts = {"training": ("train", 4), "validation": ("val", 2), "testing": ("test", 2)}
    for folder, (split, count) in counts.items():
        for number in range(1, count + 1):
            shape = (4 + number % 2, 6)
            ids = np.kron(rng.integers(0, 151, shape), np.ones((12, 12))).astype(np.uint8)
            ids[:3, :3], ids[3:6, :3] = 0, 150
            name = f"ADE_{split}_{number:08d}"
            label = None if split == "test" else root / "annotations" / folder / f"{name}.png"
            write_pair(root / "images" / folder / f"{name}.jpg", label, ids)
    return root


@pytest.fixture(scope="session")
def pascal_context_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature of PASCAL-Context: train and val, ids 0..59, names like 2008_000002."""
    root = tmp_path_factory.mktemp("pascal") / "PASCAL_Context"
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            ids = np.kron(rng.integers(0, 60, (4, 5)), np.ones((12, 12))).astype(np.uint8)
            ids[:3, :3], ids[3:6, :3] = 0, 59
            name = f"2008_{number + 10 * len(split):06d}"
            folder = root / split
            write_pair(folder / "image" / f"{name}.jpg", folder / "label" / f"{name}.png", ids)
    return root
