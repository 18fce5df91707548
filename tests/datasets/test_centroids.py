# SPDX-License-Identifier: Apache-2.0
"""Class centroids against their definition, and a cache that is never trusted blindly."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import center_of_mass

from datasets import centroids
from datasets.base import DataError
from datasets.centroids import Remarks, label_centroids, load_or_build
from datasets.spec import DatasetSpec, Item
from runtime.progress import Progress
from tests.full_disk import REASON, full_after
from tests.parity.published import unclipped_centroids

NAMES = ("road", "sky", "pole", "ghost")
SPEC = DatasetSpec(
    name="toy",
    class_names=NAMES,
    palette=tuple((i, i, i) for i in range(4)),
    id_to_train_id={**{i: i for i in range(4)}, 9: 255},
    ignore_label=255,
    train_id_to_id=(0, 1, 2, 3),
)


def draw_label(height: int, width: int, seed: int) -> np.ndarray:
    """Blobs of classes 0..2 and ignored pixels."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0, 1, 2, 9], (-(-height // 7), -(-width // 7)))
    return np.kron(coarse, np.ones((7, 7)))[:height, :width].astype(np.uint8)


def by_definition(label: np.ndarray, num_classes: int, tile: int) -> dict[int, list]:
    found: dict[int, list] = {}
    for top in range(0, label.shape[0] - tile + 1, tile):
        for left in range(0, label.shape[1] - tile + 1, tile):
            patch = label[top : top + tile, left : left + tile]
            for k in range(num_classes):
                if (patch == k).any():
                    y, x = center_of_mass(patch == k)
                    found.setdefault(k, []).append((int(x) + left, int(y) + top))
    return found


@pytest.mark.parametrize("size", [(64, 96), (70, 100), (33, 64), (32, 32)])
@pytest.mark.parametrize("tile", [16, 32])
def test_centroids_are_the_truncated_centres_of_mass_of_whole_tiles(size, tile):
    label = draw_label(*size, seed=tile)
    assert label_centroids(label, 4, tile) == by_definition(label, 4, tile)


def test_memory_order_of_the_label_does_not_matter():
    label = draw_label(40, 60, 1)
    assert label_centroids(np.asfortranarray(label), 4, 16) == label_centroids(label, 4, 16)


def test_a_tile_larger_than_the_image_is_clipped_or_gives_nothing():
    label = np.zeros((20, 60), np.uint8)
    assert label_centroids(label, 4, 32) == {0: [(15, 9)]}
    assert label_centroids(label, 4, 100) == {0: [(29, 9)]}
    assert unclipped_centroids(label, 4, 32) == {}


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    found = []
    for number in range(3):
        label = tmp_path / "set" / f"{number}.png"
        label.parent.mkdir(exist_ok=True)
        Image.fromarray(draw_label(48, 64, number)).save(label)
        found.append(Item(name=str(number), image=label, label=label))
    return [*found, Item(name="bare", image=tmp_path / "bare.png", label=None)]


@pytest.fixture
def build(items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """`load_or_build` into one cache; `.reads` counts the labels read, `.lines` the log."""

    def run(
        tile: int = 16, listed: list[Item] | None = None, spec: DatasetSpec = SPEC,
        title: str = "images", progress: Progress | None = None,
    ):  # fmt: skip
        listed = items if listed is None else listed
        remarks = Remarks(log=run.lines.append, title=title)
        return load_or_build(listed, spec, tile, run.folder, 2, remarks=remarks, progress=progress)

    def read(item: Item, spec: DatasetSpec) -> np.ndarray:
        run.reads.append(item.label)
        return read_item_label(item, spec)

    read_item_label = centroids.read_item_label
    monkeypatch.setattr(centroids, "read_item_label", read)
    run.folder, run.reads, run.lines = tmp_path / "cache", [], []
    return run


def test_a_set_has_the_points_of_its_labels_in_order(build, items):
    found = build()
    for k in range(3):
        want = [
            (index, *xy)
            for index in range(3)
            for xy in by_definition(draw_label(48, 64, index), 4, 16).get(k, [])
        ]
        assert found[k] == want
    assert 3 not in found


def test_the_second_start_reads_no_label(build):
    first = build()
    assert len(build.reads) == 3
    assert build() == first
    assert len(build.reads) == 3


def test_a_moved_set_keeps_its_cache(build, items, tmp_path):
    first = build()
    (tmp_path / "set").rename(tmp_path / "moved")
    moved = [
        Item(name=i.name, image=i.image, label=i.label and tmp_path / "moved" / i.label.name)
        for i in items
    ]
    assert build(listed=moved) == first
    assert len(build.reads) == 3


def touch(item: Item) -> None:
    stat = item.label.stat()
    os.utime(item.label, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1000))


def test_another_time_list_map_or_tile_is_another_cache(build, items, monkeypatch):
    build()
    touch(items[1])
    build()
    assert len(build.reads) == 6
    build(listed=items[:2])
    assert len(build.reads) == 8
    build(listed=[items[1], items[0]])
    assert len(build.reads) == 10
    build(tile=24)
    assert len(build.reads) == 13
    swapped = DatasetSpec(**{**vars(SPEC), "id_to_train_id": {0: 1, 1: 0, 2: 2, 3: 3, 9: 255}})
    assert build(spec=swapped)[0] == build()[1]
    assert len(build.reads) == 16
    monkeypatch.setattr(centroids, "VERSION", centroids.VERSION + 1)
    build()
    assert len(build.reads) == 19


def cache_file(build: Callable) -> Path:
    (path,) = build.folder.glob("*.json")
    return path


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace("[0, ", "[1, ", 1),
        lambda text: json.dumps({**json.loads(text), "key": "0"}),
        lambda text: "\x00" * len(text),
    ],
)
def test_a_torn_or_changed_cache_is_built_again_with_a_line(build, damage):
    first = build()
    path = cache_file(build)
    path.write_text(damage(path.read_text()))
    build.lines.clear()
    assert build() == first
    assert len(build.reads) == 6
    assert any(str(path) in line and "again" in line for line in build.lines)
    assert build() == first
    assert len(build.reads) == 6


def test_a_failed_write_costs_one_line_and_leaves_nothing(build):
    with full_after(10):
        assert build()
    assert list(build.folder.iterdir()) == []
    assert sum(REASON in line for line in build.lines) == 1


def test_an_unwritable_folder_costs_one_line(build, tmp_path):
    build.folder = tmp_path / "bare.png" / "cache"
    (tmp_path / "bare.png").write_text("a file, not a folder")
    assert build()
    assert sum("not cached" in line for line in build.lines) == 1


def test_every_start_names_the_set_its_absent_classes_and_a_clipped_tile_once(build):
    for _ in ("cold cache", "warm cache"):
        build.lines.clear()
        build(tile=1024, title="coarse images")
        assert build.lines == [
            "class-uniform sampling, coarse images: the labels (64x48) are smaller than "
            "--class_uniform_tile 1024: tiles of 64x48 are used",
            "class-uniform sampling, coarse images: no pixel of ghost in the labels",
        ]
    assert len(build.reads) == 3


def test_progress_counts_every_item(build):
    seen = []
    build(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 4) for n in (1, 2, 3, 4)]


def test_unknown_ids_and_missing_labels_stop_the_build_without_a_cache(build, items):
    label = draw_label(48, 64, 5)
    label[0, 0] = 77
    Image.fromarray(label).save(items[1].label)
    with pytest.raises(DataError, match="77"):
        build()
    assert not list(build.folder.glob("*")) if build.folder.exists() else True
    items[1].label.unlink()
    with pytest.raises(DataError, match=r"1\.png"):
        build()
