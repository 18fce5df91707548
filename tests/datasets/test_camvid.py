# SPDX-License-Identifier: Apache-2.0
"""CamVid from its list files or its folders; the real set where it is present."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.base import DataError, SegmentationDataset
from datasets.camvid import SPEC, list_items
from tests.datasets.conftest import save

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "camvid"


@pytest.fixture
def miniature(tmp_path: Path) -> Path:
    root = tmp_path / "camvid"
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        lines = []
        for number in reversed(range(count)):
            stem = f"{split}_{number}"
            save(root / split / f"{stem}.jpg", rng.integers(0, 256, (16, 24, 3), dtype=np.uint8))
            ids = rng.integers(0, 12, (16, 24), dtype=np.uint8)
            save(root / f"{split}annot" / f"{stem}.png", ids)
            lines.append(f"{split}/{stem}.jpg {split}annot/{stem}.png")
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root


def names(root: Path, split: str) -> list[str]:
    return [item.name for item in list_items(root, split)]


def test_list_file_gives_the_order(miniature: Path) -> None:
    assert names(miniature, "train") == ["train_2", "train_1", "train_0"]


def test_without_list_files_stems_pair(miniature: Path) -> None:
    for listing in miniature.glob("*.txt"):
        listing.unlink()
    items = list_items(miniature, "train")
    assert [item.name for item in items] == ["train_0", "train_1", "train_2"]
    assert items[0].label == miniature / "trainannot" / "train_0.png"


def test_absolute_paths_of_the_original_lists_are_understood(miniature: Path) -> None:
    (miniature / "val.txt").write_text(
        "/SegNet/CamVid/val/val_1.jpg /SegNet/CamVid/valannot/val_1.png;\n"
    )
    assert names(miniature, "val") == ["val_1"]


def test_trainval_is_both(miniature: Path) -> None:
    assert names(miniature, "trainval") == names(miniature, "train") + names(miniature, "val")


def test_void_is_ignored(miniature: Path) -> None:
    dataset = SegmentationDataset(list_items(miniature, "train"), SPEC)
    values = {int(value) for index in range(3) for value in np.unique(dataset[index].label)}
    assert values == {*range(11), 255}


def test_missing_label_line_and_split_are_errors(miniature: Path) -> None:
    label = miniature / "trainannot" / "train_1.png"
    label.unlink()
    with pytest.raises(DataError, match=f"{label}: label of .* is missing"):
        list_items(miniature, "train")
    (miniature / "val.txt").write_text("val/val_0.jpg\n")
    with pytest.raises(DataError, match="line 1"):
        list_items(miniature, "val")
    with pytest.raises(DataError, match="no split dev"):
        list_items(miniature, "dev")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real CamVid is not beside the checkout")
def test_real_set_has_the_published_splits() -> None:
    assert [len(list_items(REAL, split)) for split in ("train", "val", "test")] == [367, 101, 233]
    sample = SegmentationDataset(list_items(REAL, "test"), SPEC)[0]
    assert sample.size == (360, 480)
    assert sample.label is not None
    assert set(np.unique(sample.label)) <= {*range(11), 255}
