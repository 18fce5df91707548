# SPDX-License-Identifier: Apache-2.0
"""ADE20K on a miniature of its layout: labels, splits, shifted files, training batches."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from assembly import data, sets
from config import UserError
from datasets import ade20k
from datasets.base import DataError, read_label
from datasets.spec import shifted_labels_text, zero_label_ids
from reports.files import encode_png
from settings import Settings, read_settings
from tools import check

LABELS = "annotations/training"


@pytest.fixture
def ade(ade20k_root: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(ade20k_root, tmp_path / "ade"))


def on(root: Path, cache: Path, *argv: str) -> Settings:
    return read_settings([
        "--dataset", "ade20k", "--set", f"DATASET.ADE20K_DIR={root}", "--num_workers", "0",
        "--set", f"DATASET.CENTROID_ROOT={cache}", "--class_uniform_pct", "0", *argv,
    ])  # fmt: skip


def rewrite(folder: Path, change: object) -> None:
    """Every label below `folder` changed by a function of its ids."""
    for path in folder.rglob("*.png"):
        Image.fromarray(change(np.asarray(Image.open(path)))).save(path)


def shifted(ids: np.ndarray) -> np.ndarray:
    return (ids - 1).astype(np.uint8)  # 0 wraps to 255


def test_there_are_150_classes_in_the_published_order() -> None:
    spec = ade20k.SPEC
    assert (spec.num_classes, spec.ignore_label) == (150, 255)
    assert spec.class_names[:3] == ("wall", "building", "sky")
    assert spec.class_names[-1] == "flag"
    assert spec.train_id_to_id == tuple(range(1, 151))
    assert all(name == name.strip() for name in spec.class_names)


def test_road_and_skyscraper_share_a_colour_and_stay_two_classes(tmp_path: Path) -> None:
    spec = ade20k.SPEC
    twice = [color for color, count in Counter(spec.palette).items() if count > 1]
    same = [
        name for name, color in zip(spec.class_names, spec.palette, strict=False) if color in twice
    ]
    assert same == ["road", "skyscraper"]
    ids = np.array([[6, 48], [48, 6]], np.uint8)
    (tmp_path / "x.png").write_bytes(encode_png(ids, spec.flat_palette()))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), ids)


def test_zero_is_ignored_and_classes_move_down_by_one(ade20k_root: Path) -> None:
    for item in ade20k.list_items(ade20k_root, "train"):
        ids = np.asarray(Image.open(item.label)).astype(int)
        assert np.array_equal(read_label(item.label, ade20k.SPEC), np.where(ids, ids - 1, 255))


def test_255_stays_ignored_and_values_above_150_are_errors(tmp_path: Path) -> None:
    Image.fromarray(np.array([[255, 1]], np.uint8)).save(tmp_path / "a.png")
    assert read_label(tmp_path / "a.png", ade20k.SPEC).tolist() == [[255, 0]]
    Image.fromarray(np.array([[151, 1]], np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"b.png: label id 151 \(1 pixel\) not in the classes"):
        read_label(tmp_path / "b.png", ade20k.SPEC)


def test_splits_are_sorted_and_test_has_no_labels(ade20k_root: Path) -> None:
    names = [item.name for item in ade20k.list_items(ade20k_root, "train")]
    assert names == [f"ADE_train_{number:08d}" for number in range(1, 5)]
    assert len(ade20k.list_items(ade20k_root, "val")) == 2
    assert [item.label for item in ade20k.list_items(ade20k_root, "test")] == [None, None]


def test_the_root_may_be_the_folder_around_the_archive(ade20k_root: Path) -> None:
    around = ade20k.list_items(ade20k_root.parent, "val")
    assert [item.name for item in around] == [
        item.name for item in ade20k.list_items(ade20k_root, "val")
    ]


def test_the_test_archive_may_lie_beside_the_others(ade: Path) -> None:
    (ade.parent / "release_test").mkdir()
    (ade / "images" / "testing").rename(ade.parent / "release_test" / "testing")
    assert len(ade20k.list_items(ade, "test")) == 2
    shutil.rmtree(ade.parent / "release_test")
    with pytest.raises(DataError, match="no test images there, in images/testing"):
        ade20k.list_items(ade, "test")


def test_missing_folder_image_and_label_are_named(ade: Path) -> None:
    (ade / "annotations" / "validation" / "ADE_val_00000002.png").unlink()
    with pytest.raises(DataError, match=r"ADE_val_00000002.jpg: its label .* is missing"):
        ade20k.list_items(ade, "val")
    for picture in (ade / "images" / "validation").iterdir():
        picture.unlink()
    with pytest.raises(DataError, match=r"images/validation: no images there"):
        ade20k.list_items(ade, "val")
    shutil.rmtree(ade / "images")
    with pytest.raises(DataError, match=r"images/training: no such folder"):
        ade20k.list_items(ade, "train")


@pytest.mark.parametrize(
    ("values", "files", "words"),
    [
        (range(1, 151), 11, "never hold 0, nor 255"),
        (range(1, 151), 10, ""),
        ([*range(150), 255], 1, "hold 255 but never 150"),
        (range(151), 11, ""),
        ([*range(151), 255], 11, ""),
        ([0, 1, 2], 11, ""),
        ([], 11, ""),
    ],
)
def test_a_set_of_shifted_labels_is_told_from_its_values(
    values: list[int], files: int, words: str
) -> None:
    used = np.zeros(256, bool)
    used[list(values)] = True
    text = shifted_labels_text(used, ade20k.SPEC, files)
    assert (words in text) if words else not text


def without_void(ids: np.ndarray) -> np.ndarray:
    return ids.clip(1)


def test_a_few_images_may_be_labelled_everywhere(ade: Path, tmp_path: Path) -> None:
    rewrite(ade / "annotations", without_void)
    told = on(ade, tmp_path / "cache")
    data.make_train_loader(told, 0, 1, 0)


@pytest.mark.parametrize(("change", "more"), [(shifted, 0), (without_void, 5)])
def test_labels_shifted_already_stop_training_with_one_line(
    ade: Path, tmp_path: Path, change: object, more: int
) -> None:
    for number in range(5, 5 + more):
        for folder, suffix in (("images", "jpg"), ("annotations", "png")):
            first = ade / folder / "training" / f"ADE_train_00000001.{suffix}"
            shutil.copy(first, first.with_stem(f"ADE_train_{number:08d}"))
    rewrite(ade / "annotations", change)
    told = on(ade, tmp_path / "cache")
    with pytest.raises(UserError, match=r"seem to be shifted already; wanted") as error:
        data.make_train_loader(told, 0, 1, 0)
    assert "\n" not in str(error.value) and "ADE_train_00000001.png" in str(error.value)


def test_labels_shifted_already_stop_an_evaluation_too(ade: Path, tmp_path: Path) -> None:
    rewrite(ade / "annotations", shifted)
    told = on(ade, tmp_path / "cache", "--eval", "val")
    items = sets.eval_items(told)
    with pytest.raises(UserError, match="shifted already"):
        data.make_eval_loader(told, ade20k.SPEC, 0, 1, items)
    unscored = on(ade, tmp_path / "cache", "--eval", "val", "--no_metrics", "--dump_assets")
    assert len(list(data.make_eval_loader(unscored, ade20k.SPEC, 0, 1, items))) == 2


def test_check_finds_shifted_labels(ade: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--dataset", "ade20k", "--set", f"DATASET.ADE20K_DIR={ade}"]
    assert check.main(argv) == 0
    rewrite(ade / LABELS, shifted)
    assert check.main(argv) == 2
    assert "train: the label files of ade20k hold 255 but never 150" in capsys.readouterr().out


def test_mmseg_batches_have_the_crop_size_and_exact_padding(
    ade20k_root: Path, tmp_path: Path
) -> None:
    told = on(
        ade20k_root, tmp_path, "--augmentation", "mmseg", "--img_scale", "80,40",
        "--crop_size", "64,64", "--bs_trn", "4",
    )  # fmt: skip
    loader, _, spec = data.make_train_loader(told, 0, 1, 0)
    batch = next(iter(loader)).to("cpu")
    assert batch.images.shape == (4, 3, 64, 64) and batch.labels.shape == (4, 64, 64)
    values = torch.unique(batch.labels)
    assert values.max() == 255 and values[:-1].max() < spec.num_classes
    outside = batch.rows == -1
    assert outside.any()
    assert (batch.images.permute(0, 2, 1, 3)[outside] == 0).all()


def test_class_uniform_draws_work_with_the_mmseg_pipeline(
    ade20k_root: Path, tmp_path: Path
) -> None:
    told = on(
        ade20k_root, tmp_path, "--augmentation", "mmseg", "--img_scale", "200,100",
        "--crop_size", "32,32", "--class_uniform_pct", "1", "--class_uniform_tile", "24",
    )  # fmt: skip
    told = replace(told, data=replace(told.data, bs_trn=1))
    loader, sampler, _ = data.make_train_loader(told, 0, 1, 0)
    sampler.set_epoch(0)
    assert len(list(loader)) == 4


def test_test_scale_leaves_labels_at_the_size_of_the_file(
    ade20k_root: Path, tmp_path: Path
) -> None:
    told = on(
        ade20k_root, tmp_path, "--eval", "val", "--test_scale", "400,96", "--size_divisor", "32"
    )
    items = sets.eval_items(told)
    batches = list(data.make_eval_loader(told, ade20k.SPEC, 0, 1, items))
    assert [tuple(batch.images.shape[1:3]) for batch in batches] == [(96, 128), (96, 160)]
    assert [batch.sizes for batch in batches] == [[(60, 72)], [(48, 72)]]
    assert [tuple(batch.labels.shape[1:]) for batch in batches] == [(60, 72), (48, 72)]


def test_the_shift_maps_every_value_of_a_full_table() -> None:
    assert zero_label_ids(254)[254] == 253
    assert sorted(zero_label_ids(254)) == list(range(256))
