# SPDX-License-Identifier: Apache-2.0
"""Settings to loaders: what arrives, and what is refused before a run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from assembly import data, sets
from assembly.dataset import dataset_spec
from config import UserError
from datasets import verify
from datasets.registry import row_of
from datasets.spec import DatasetSpec
from settings import Settings, read_settings
from tests.datasets.conftest import save


def settings(*argv: str) -> Settings:
    return read_settings([*argv, "--num_workers", "0"])


def on(root: Path, *argv: str) -> Settings:
    return settings(
        "--dataset", "cityscapes", "--set_cityscapes_root", str(root), "--crop_size", "32,32",
        "--class_uniform_tile", "12", "--set", f"DATASET.CENTROID_ROOT={root}/centroids", *argv,
    )  # fmt: skip


def a_label(root: Path, split: str = "train") -> Path:
    return sorted(root.glob(f"gtFine_trainvaltest/gtFine/{split}/*/*.png"))[0]


@pytest.mark.parametrize("pct", ["0", "0.5"])
def test_training_batches_have_the_crop_size(cities: Path, pct: str) -> None:
    told = on(cities, "--class_uniform_pct", pct)
    loader, sampler, spec = data.make_train_loader(told, 0, 1, 0)
    batches = list(loader)
    assert spec.name == "cityscapes"
    assert len(batches) * 2 == len(sampler) == 4
    assert batches[0].images.shape == (2, 32, 32, 3)
    assert batches[0].labels is not None
    assert set(batches[0].labels.unique().tolist()) <= {0, 10, 255}


def test_class_uniform_draws_carry_centroids(cities: Path) -> None:
    for kind in ("leftImg8bit", "gtFine"):  # 20 images: one draw a class
        for path in sorted(cities.glob(f"{kind}_trainvaltest/{kind}/train/*/*_000000_*")):
            for number in range(2, 10):
                shutil.copy(path, path.with_name(path.name.replace("000000", f"{number:06d}")))
    told = on(cities, "--class_uniform_pct", "1")
    _, sampler, _ = data.make_train_loader(told, 0, 1, 0)
    points = [draw.centroid for draw in sampler if draw.centroid is not None]
    assert points
    assert all(0 <= x < 32 and 0 <= y < 24 for x, y in points)


def test_training_is_repeatable(cities: Path) -> None:
    told = on(cities)
    first, second = (next(iter(data.make_train_loader(told, 0, 1, 5)[0])) for _ in range(2))
    assert torch.equal(first.images, second.images)
    other = next(iter(data.make_train_loader(told, 0, 1, 6)[0]))
    assert not torch.equal(first.images, other.images)


def test_ranks_share_the_epoch(cities: Path) -> None:
    told = on(cities, "--class_uniform_pct", "0", "--bs_trn", "1")
    indices = [
        [draw.index for draw in data.make_train_loader(told, rank, 2, 0)[1]] for rank in (0, 1)
    ]
    assert sorted(sum(indices, [])) == [0, 1, 2, 3]


def test_validation_sees_every_image_whole_and_once(cities: Path) -> None:
    told = on(cities)
    spec, items = dataset_spec(told), sets.val_items(told)
    names = []
    for rank in (0, 1):
        for batch in data.make_eval_loader(told, spec, rank, 2, items):
            assert batch.images.shape == (1, 24, 32, 3)
            names += batch.names
    assert sorted(names) == [item.name for item in items]


def test_eval_items_follow_the_flag(cities: Path) -> None:
    counts = {"val": 2, "trn": 4, "test": 2}
    for mode, count in counts.items():
        told = on(cities, "--eval", mode)
        assert len(sets.eval_items(told)) == count
    told = on(cities, "--eval", "folder", "--eval_folder", str(cities / "gtFine_trainvaltest"))
    assert len(sets.eval_items(told)) == 8


def test_folder_evaluation_reports_a_broken_file(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "b.png").write_bytes(b"torn")
    told = settings("--eval", "folder", "--eval_folder", str(tmp_path))
    spec, items = dataset_spec(told), sets.eval_items(told)
    batches = list(data.make_eval_loader(told, spec, 0, 1, items))
    assert [batch.names for batch in batches] == [["a"], []]
    assert batches[1].failed[0][0] == "b"


@pytest.mark.parametrize(
    ("dataset", "key", "flag"),
    [
        ("cityscapes", "CITYSCAPES_DIR", "--set_cityscapes_root"),
        ("synthetic", "SYNTHETIC_DIR", "--set DATASET.SYNTHETIC_DIR"),
        ("camvid", "CAMVID_DIR", "--set DATASET.CAMVID_DIR"),
        ("mapillary", "MAPILLARY_DIR", "--set DATASET.MAPILLARY_DIR"),
        ("custom", "CUSTOM_YAML", "--set DATASET.CUSTOM_YAML"),
    ],
)
@pytest.mark.parametrize("value", ["", "/absent/data"])
def test_missing_root_names_key_variable_and_flag(
    dataset: str, key: str, flag: str, value: str
) -> None:
    told = settings("--dataset", dataset, "--set", f"DATASET.{key}={value}")
    with pytest.raises(UserError) as raised:
        sets.train_items(told)
    text = str(raised.value)
    for word in (f"DATASET.{key}", f"HISEG_{key}", flag, "paths.yml", value):
        assert word in text
    assert "\n" not in text


def test_unknown_id_stops_before_training(cities: Path) -> None:
    ids = np.full((24, 32), 7, np.uint8)
    ids[0, :9] = 99
    for split in ("train", "val"):
        label = a_label(cities, split)
        good = label.read_bytes()
        save(label, ids)
        for pct in ("0", "0.5"):
            told = on(cities, "--class_uniform_pct", pct)
            with pytest.raises(UserError, match=rf"{label.name}: label id 99 \(9 pixels\)"):
                data.make_train_loader(told, 0, 1, 0)
        label.write_bytes(good)


def test_label_of_another_size_stops_before_training(cities: Path) -> None:
    save(a_label(cities), np.full((10, 12), 7, np.uint8))
    told = on(cities)
    with pytest.raises(UserError, match="is 32x24, but its label .* is 12x10"):
        data.make_train_loader(told, 0, 1, 0)


def test_checked_set_is_not_read_again_until_it_changes(
    cities: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = on(cities, "--class_uniform_pct", "0")
    data.make_train_loader(told, 0, 1, 0)
    read: list[Path] = []
    read_ids = verify.read_ids

    def counted(path: Path, spec: DatasetSpec) -> np.ndarray:
        read.append(path)
        return read_ids(path, spec)

    monkeypatch.setattr(verify, "read_ids", counted)
    data.make_train_loader(told, 0, 1, 0)
    assert read == []
    save(a_label(cities), np.full((24, 32), 7, np.uint8))
    data.make_train_loader(told, 0, 1, 0)
    assert len(read) == 4  # those of train; val stayed as it is


def test_a_folder_is_no_data_set_to_train_on() -> None:
    told = settings("--dataset", "folder")
    with pytest.raises(UserError, match="folder is not supported here.*camvid.*mapillary"):
        dataset_spec(told)


def test_a_set_that_is_not_supported_is_not_named_as_one_that_is() -> None:
    with pytest.raises(UserError, match="nullloader is not supported here; one of ") as error:
        row_of("nullloader")
    assert "nullloader," not in str(error.value)


def test_nullloader_needs_no_files() -> None:
    told = settings("--dataset", "nullloader", "--crop_size", "32,64")
    with pytest.raises(UserError, match="--class_uniform_pct 0"):
        data.make_train_loader(told, 0, 1, 0)
    told = replace(told, data=replace(told.data, class_uniform_pct=0.0))
    loader, sampler, _ = data.make_train_loader(told, 0, 1, 0)
    batch = next(iter(loader))
    assert len(sampler) == 3000
    assert batch.images.shape == (2, 32, 64, 3)
    assert batch.labels is not None
    assert not batch.labels.any()


def test_fingerprint_changes_with_the_files(cities: Path) -> None:
    told = on(cities)
    before = sets.Sets(told).fingerprint()
    assert before == sets.Sets(told).fingerprint()
    save(a_label(cities), np.zeros((24, 32), np.uint8))
    after = sets.Sets(told).fingerprint()
    assert after["train"] != before["train"]
    assert after["val"] == before["val"]


def test_augmented_images_are_written_to_look_at(cities: Path, tmp_path: Path) -> None:
    told = on(cities)
    assert data.dump_augmentations(told, tmp_path / "out") == 4
    assert len(list((tmp_path / "out").glob("*_image.png"))) == 4
    assert len(list((tmp_path / "out").glob("*_label.png"))) == 4
