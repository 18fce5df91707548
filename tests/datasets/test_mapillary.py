# SPDX-License-Identifier: Apache-2.0
"""Mapillary Vistas on a miniature of its layout: classes, pairs, sizes, wrong files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assembly import data, sets
from assembly.dataset import dataset_spec
from config import UserError
from datasets import mapillary
from datasets.base import DataError, read_label
from settings import Settings, read_settings
from tools import check


@pytest.fixture
def vistas(mapillary_root: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(mapillary_root, tmp_path / "vistas"))


def on(root: Path, *argv: str) -> Settings:
    return read_settings([
        "--dataset", "mapillary", "--set", f"DATASET.MAPILLARY_DIR={root}", "--num_workers", "0",
        "--set", f"DATASET.CENTROID_ROOT={root}/centroids", "--crop_size", "48,64", *argv,
    ])  # fmt: skip


def test_classes_are_those_of_config_json(mapillary_root: Path) -> None:
    spec = mapillary.make_spec(mapillary_root)
    labels = json.loads((mapillary_root / "config.json").read_text())["labels"]
    assert (spec.num_classes, spec.ignore_label) == (65, 65)
    assert spec.class_names[:2] == ("Thing_No_0", "Thing_No_1")
    assert [list(color) for color in spec.palette] == [entry["color"] for entry in labels[:65]]
    assert spec.train_id_to_id == tuple(range(65))


def test_labels_are_used_as_they_are(mapillary_root: Path) -> None:
    spec = mapillary.make_spec(mapillary_root)
    for item in mapillary.list_items(mapillary_root, "train"):
        ids = np.asarray(Image.open(item.label))
        assert np.array_equal(read_label(item.label, spec), ids)


def test_splits_have_their_images_and_test_no_labels(mapillary_root: Path) -> None:
    counts = {split: len(mapillary.list_items(mapillary_root, split)) for split in mapillary.SPLITS}
    assert counts == {"train": 4, "val": 2, "test": 1}
    assert mapillary.list_items(mapillary_root, "test")[0].label is None
    assert mapillary.list_items(mapillary_root, "val")[0].name == "key0_x-Y"


def test_labels_of_the_second_download_are_found(vistas: Path) -> None:
    (vistas / "config.json").rename(vistas / "config_v1.2.json")
    for split in ("training", "validation"):
        (vistas / split / "v1.2").mkdir()
        (vistas / split / "labels").rename(vistas / split / "v1.2" / "labels")
    assert mapillary.make_spec(vistas).num_classes == 65
    assert len(mapillary.list_items(vistas, "train")) == 4


def test_padding_and_void_of_training_batches_are_65(mapillary_root: Path, tmp_path: Path) -> None:
    told = on(
        mapillary_root, "--set", f"DATASET.CENTROID_ROOT={tmp_path}", "--pre_size", "96", "--gblur",
        "--crop_size", "128", "--scale_max", "1", "--class_uniform_tile", "16",
    )  # fmt: skip
    loader, sampler, spec = data.make_train_loader(told, 0, 1, 0)
    values = np.unique(np.concatenate([batch.labels.numpy().ravel() for batch in loader]))
    assert values.max() == 65
    assert spec.ignore_label == 65


@pytest.mark.parametrize(
    ("argv", "sizes"),
    [
        ((), [(64, 96), (80, 96)]),
        (("--pre_size", "48"), [(32, 48), (40, 48)]),
        (("--pre_size", "72", "--map_crop_val"), [(72, 72), (72, 72)]),
    ],
)
def test_validation_size_follows_pre_size(
    mapillary_root: Path, argv: tuple[str, ...], sizes: list[tuple[int, int]]
) -> None:
    told = on(mapillary_root, *argv)
    spec, items = dataset_spec(told), sets.val_items(told)
    batches = list(data.make_eval_loader(told, spec, 0, 1, items))
    assert [tuple(batch.images.shape[1:3]) for batch in batches] == sizes


def write_config(root: Path, content: object) -> None:
    (root / "config.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"version": "1.1"}, 'config.json: no list "labels"'),
        ([], 'config.json: no list "labels"'),
        ({"labels": [{}] * 124}, "124 labels, but v1.1 and v1.2 have 65 classes"),
        ({"labels": [{"readable": "Bird"}] * 66}, r'labels\[0\] needs "readable" and "color"'),
        (
            {"labels": [{"readable": "Bird", "color": [1, 2, 300]}] * 66},
            r'labels\[0\] needs "readable" and "color"',
        ),
    ],
)
def test_wrong_config_is_one_line(vistas: Path, content: object, words: str) -> None:
    write_config(vistas, content)
    with pytest.raises(DataError, match=words) as raised:
        mapillary.make_spec(vistas)
    assert "\n" not in str(raised.value)


def test_missing_or_torn_config_is_one_line(vistas: Path) -> None:
    (vistas / "config.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        mapillary.make_spec(vistas)
    (vistas / "config.json").unlink()
    with pytest.raises(DataError, match=r"no config.json or config_v1.2.json"):
        mapillary.make_spec(vistas)


def test_label_above_65_stops_before_training(vistas: Path) -> None:
    label = vistas / "training" / "labels" / "key0_x-Y.png"
    ids = np.asarray(Image.open(label)).copy()
    ids[:2, :3] = 66
    Image.fromarray(ids).save(label)
    told = on(vistas, "--class_uniform_pct", "0")
    with pytest.raises(UserError, match=r"key0_x-Y.png: label id 66 \(6 pixels\) not in"):
        data.make_train_loader(told, 0, 1, 0)


def test_image_without_label_is_named(vistas: Path) -> None:
    (vistas / "validation" / "labels" / "key1_x-Y.png").unlink()
    with pytest.raises(DataError, match=r"key1_x-Y.jpg: its label .* is missing"):
        mapillary.list_items(vistas, "val")


def test_check_reads_the_whole_set(mapillary_root: Path, capsys: pytest.CaptureFixture) -> None:
    argv = ["--dataset", "mapillary", "--set", f"DATASET.MAPILLARY_DIR={mapillary_root}"]
    assert check.main(argv) == 0
    assert "Thing_No_64" in capsys.readouterr().out


def test_check_reports_a_set_without_labels_in_its_config(
    vistas: Path, capsys: pytest.CaptureFixture
) -> None:
    write_config(vistas, {})
    assert check.main(["--dataset", "mapillary", "--set", f"DATASET.MAPILLARY_DIR={vistas}"]) == 2
    assert 'no list "labels"' in capsys.readouterr().err
