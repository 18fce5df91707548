# SPDX-License-Identifier: Apache-2.0
"""What the first and the second start of a training on a large set cost before step 1.

    python -m benchmarks.start            # 50,000 images, about a minute; --images for others

CPU seconds of the part that looks at the data: listing, checking, centroids, the fingerprint of
run.json. Reading every label once is the baseline of the first start; the limits are 20 seconds
beyond it, and 4 seconds for the second start.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from assembly import data
from assembly.sets import Sets
from datasets.base import read_label
from datasets.custom import list_items, make_spec
from settings import read_settings

SIZE = (24, 32)
CLASSES = 3
LIMITS = {"first start": 20.0, "second start": 4.0}


def write_set(root: Path, images: int) -> Path:
    """A custom set of `images` tiny pairs, a fiftieth of them for validation; its YAML file."""
    rng = np.random.default_rng(0)
    for split, count in (("train", images - images // 50), ("val", images // 50)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            ids = np.zeros(SIZE, np.uint8)
            top, left = rng.integers(2, 12, 2)
            ids[top : top + 8, left : left + 8] = 1
            ids[20:] = 2
            pixels = np.repeat(ids[..., None] * 80, 3, 2)
            cv2.imwrite(str(root / split / "images" / f"{number:06d}.jpg"), pixels)
            cv2.imwrite(str(root / split / "masks" / f"{number:06d}.png"), ids)
    path = root / "set.yml"
    path.write_text(
        "names: [a, b, c]\nsplits:\n"
        + "".join(f"  {s}: {{images: {s}/images, labels: {s}/masks}}\n" for s in ("train", "val"))
    )
    return path


def start(path: Path) -> None:
    """All that a training does with its data before step 1."""
    settings = read_settings([
        "--dataset", "custom", "--set", f"DATASET.CUSTOM_YAML={path}", "--num_workers", "1",
        "--set", f"DATASET.CENTROID_ROOT={path.parent}/.centroids", "--crop_size", "32,32",
        "--class_uniform_tile", "32",
    ])  # fmt: skip
    sets = Sets(settings)
    data.make_train_loader(settings, 0, 1, 0, lambda text: None, sets)
    sets.fingerprint()


def read_labels(path: Path) -> None:
    """The baseline: every label of train once."""
    spec = make_spec(path)
    for item in list_items(path, "train"):
        assert item.label is not None
        read_label(item.label, spec)


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of this process for `work()`."""
    before = time.process_time()
    work()
    return time.process_time() - before


def main() -> None:
    """Write the set, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=50_000)
    count = parser.parse_args().images
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = write_set(Path(folder), count)
        baseline = cpu_seconds(lambda: read_labels(path))
        taken = {name: cpu_seconds(lambda: start(path)) for name in LIMITS}
    print(f"{'what':<40}{'CPU s':>8}{'limit':>8}")
    print(f"{'reading every label once':<40}{baseline:>8.1f}")
    for name, limit in LIMITS.items():
        beyond = baseline if name == "first start" else 0.0
        text = f"{name} of {count} images" + (", beyond that" if beyond else "")
        print(f"{text:<40}{taken[name] - beyond:>8.1f}{limit * count / 50_000:>8.1f}")


if __name__ == "__main__":
    main()
