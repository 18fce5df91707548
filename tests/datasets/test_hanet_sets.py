# SPDX-License-Identifier: Apache-2.0
"""BDD100K, GTA V and KITTI on miniatures of their layouts; train+val protocols; video frames."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assembly import data, sets
from config import UserError
from datasets import bdd100k, camvid, cityscapes, gtav, kitti
from datasets.base import DataError, read_label
from datasets.samplers import TrainSampler
from settings import Settings, read_settings
from tests.datasets.conftest import save
from tools import check

KEYS = {
    "bdd100k": "BDD100K_DIR", "gtav": "GTAV_DIR", "kitti": "KITTI_DIR", "camvid": "CAMVID_DIR",
    "cityscapes": "CITYSCAPES_DIR",
}  # fmt: skip


def on(dataset: str, root: Path, *argv: str) -> Settings:
    return read_settings([
        "--dataset", dataset, "--set", f"DATASET.{KEYS[dataset]}={root}", "--num_workers", "0",
        "--set", f"DATASET.CENTROID_ROOT={root}/.centroids", "--crop_size", "32,32", *argv,
    ])  # fmt: skip


def names(items: list) -> set[str]:
    return {item.name for item in items}


def test_bdd_pairs_frames_with_train_ids(bdd_root: Path) -> None:
    counts = {split: len(bdd100k.list_items(bdd_root, split)) for split in bdd100k.SPLITS}
    assert counts == {"train": 3, "val": 2, "test": 1}
    item = bdd100k.list_items(bdd_root, "train")[0]
    assert item.label.name == f"{item.name}_train_id.png"
    ids = np.asarray(Image.open(item.label))
    assert np.array_equal(read_label(item.label, bdd100k.SPEC), ids)
    assert bdd100k.list_items(bdd_root, "test")[0].label is None
    assert bdd100k.SPEC.train_id_to_id == tuple(range(19))


def test_gtav_reads_colours_and_ignores_all_others(gtav_root: Path) -> None:
    item = gtav.list_items(gtav_root, "train")[0]
    pixels = np.asarray(Image.open(item.label))
    label = read_label(item.label, gtav.SPEC)
    road = (pixels == gtav.SPEC.palette[0]).all(-1)
    strange = (pixels == (153, 153, 154)).all(-1) | (pixels == (0, 0, 143)).all(-1)
    assert np.array_equal(label == 0, road)
    assert np.array_equal(label == 255, strange)
    assert strange.any()


def test_gtav_palette_images_count_by_their_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[9, 4], [4, 9]], np.uint8))
    palette = [0] * 768
    palette[3 * 4 : 3 * 4 + 3] = gtav.SPEC.palette[10]
    picture.putpalette(palette)  # as in the real download
    picture.save(tmp_path / "label.png")
    assert read_label(tmp_path / "label.png", gtav.SPEC).tolist() == [[255, 10], [10, 255]]


def test_gtav_folds_exchange_folders(gtav_root: Path) -> None:
    folds = [names(gtav.list_items(gtav_root, "val", cv=cv)) for cv in range(3)]
    assert {next(iter(fold)).split("/")[0] for fold in folds} == {"01", "02", "03"}
    assert len(gtav.list_items(gtav_root, "train")) == 4


def test_kitti_holds_out_the_published_frames(kitti_root: Path) -> None:
    for cv, numbers in enumerate(kitti.VAL_FRAMES):
        held_out = kitti.list_items(kitti_root, "val", cv=cv)
        assert [int(item.name[:6]) for item in held_out] == list(numbers)
        assert len(kitti.list_items(kitti_root, "train", cv=cv)) == 200 - len(numbers)
        assert len(set(numbers)) == 21


def test_kitti_needs_all_frames_and_a_listed_fold(kitti_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--cv 3: kitti has the folds 0..2"):
        kitti.list_items(kitti_root, "val", cv=3)
    save(tmp_path / "training" / "image_2" / "a.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="1 images, but the folds are numbers of 200"):
        kitti.list_items(tmp_path, "train")


def test_camvid_trainval_trains_on_val_and_validates_on_test(camvid_root: Path) -> None:
    told = on("camvid", camvid_root, "--city_mode", "trainval")
    parts = {split: names(camvid.list_items(camvid_root, split)) for split in ("train", "val")}
    assert names(sets.train_items(told)) == parts["train"] | parts["val"]
    assert names(sets.val_items(told)) == names(camvid.list_items(camvid_root, "test"))


def test_parts_of_a_split_are_all_of_it(kitti_root: Path) -> None:
    parts = []
    for index in range(4):
        argv = ("--eval", "val", "--split_count", "4", "--split_index", str(index))
        parts.append(sets.eval_items(on("kitti", kitti_root, *argv)))
    assert [len(part) for part in parts] == [5, 5, 5, 6]
    assert sum(parts, []) == kitti.list_items(kitti_root, "val")
    with pytest.raises(UserError, match="--split_count 30: there are only 21 images"):
        sets.eval_items(on("kitti", kitti_root, "--eval", "val", "--split_count", "30"))


def test_kitti_trainval_is_all_frames_twice(kitti_root: Path) -> None:
    told = on("kitti", kitti_root, "--city_mode", "trainval")
    assert len(sets.train_items(told)) == len(sets.val_items(told)) == 200


def test_cityscapes_trainval_trains_on_every_city(cities: Path) -> None:
    told = on("cityscapes", cities, "--city_mode", "trainval")
    assert len(sets.train_items(told)) == 6
    assert names(sets.val_items(told)) == names(cityscapes.list_items(cities, "val"))


@pytest.mark.parametrize("dataset", ["bdd100k", "camvid"])
def test_default_tile_larger_than_the_images_gives_centroids_and_a_line(
    dataset: str, bdd_root: Path, camvid_root: Path, tmp_path: Path
) -> None:
    root = bdd_root if dataset == "bdd100k" else camvid_root
    told = on(dataset, root, "--set", f"DATASET.CENTROID_ROOT={tmp_path}/new")
    assert told.data.class_uniform_tile == 1024
    for _ in ("cold cache", "warm cache"):
        lines: list[str] = []
        _, sampler, spec = data.make_train_loader(told, 0, 1, 0, lines.append)
        assert len(sampler._plan.fine) >= spec.num_classes // 2
        clipped = [line for line in lines if "--class_uniform_tile 1024" in line]
        assert len(clipped) == 1 and "fine images" in clipped[0]


def video_root(cities: Path, root: Path, skip: int) -> Path:
    """Copies of one city's first frame, `skip` later, and one without label, `skip` before."""
    image = cityscapes.list_items(cities, "train")[0]
    stem = f"alba_000000_{19 + skip:06d}"
    images, labels = root / "leftImg8bit" / "train" / "alba", root / "gtFine" / "train" / "alba"
    for folder in (images, labels):
        folder.mkdir(parents=True)
    shutil.copy(image.image, images / f"{stem}_leftImg8bit.png")
    shutil.copy(image.image, images / f"alba_000000_{19 - skip:06d}_leftImg8bit.png")
    shutil.copy(image.label, labels / f"{stem}_gtFine_labelIds.png")
    return root


def test_max_skip_adds_the_frames_that_have_labels(cities: Path, tmp_path: Path) -> None:
    video = video_root(cities, tmp_path / "video", 3)
    more = ("--maxSkip", "3", "--max_cu_epoch", "1", "--class_uniform_pct", "1")
    told = on("cityscapes", cities, *more, "--set", f"DATASET.CITYSCAPES_VIDEO_DIR={video}")
    loader, sampler, _ = data.make_train_loader(told, 0, 1, 0)
    items = loader.dataset.dataset.items
    assert [item.name for item in items[4:]] == ["alba/alba_000000_000022_leftImg8bit"]
    assert 4 in drawn_items(sampler, 0)
    assert 4 not in drawn_items(sampler, 1)
    assert len(list(sampler)) == 4


def drawn_items(sampler: TrainSampler, epoch: int) -> set[int]:
    """Items whose points an epoch may draw."""
    points = sampler._plan.centroids(epoch).values()
    return {item for own in points for item, *_ in own}


def test_max_skip_without_frames_is_one_line(cities: Path, tmp_path: Path) -> None:
    told = on("cityscapes", cities, "--maxSkip", "3")
    with pytest.raises(UserError, match="CITYSCAPES_VIDEO_DIR is not set"):
        data.make_train_loader(told, 0, 1, 0)
    video = video_root(cities, tmp_path / "video", 5)
    argv = ("--maxSkip", "3", "--set", f"DATASET.CITYSCAPES_VIDEO_DIR={video}")
    told = on("cityscapes", cities, *argv)
    with pytest.raises(UserError, match="no frame 3 before or after"):
        data.make_train_loader(told, 0, 1, 0)


def test_scf_doubles_images_of_kitti(kitti_root: Path) -> None:
    told = on("kitti", kitti_root, "--scf")
    spec, items = data.dataset_spec(told), sets.val_items(told)
    batch = next(iter(data.make_eval_loader(told, spec, 0, 1, items[:1])))
    assert batch.images.shape[1:3] == batch.labels.shape[1:] == (32, 96)
    crop = data.train_transform(told, spec).transforms[0]
    assert (crop.scale.scale_min, crop.scale.scale_max) == (1.0, 4.0)


@pytest.mark.parametrize("dataset", ["bdd100k", "gtav", "kitti"])
def test_check_reads_the_whole_set(
    dataset: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture
) -> None:
    root = request.getfixturevalue({"bdd100k": "bdd_root"}.get(dataset, f"{dataset}_root"))
    code = check.main(["--dataset", dataset, "--set", f"DATASET.{KEYS[dataset]}={root}"])
    text = capsys.readouterr().out
    assert code == 0, text
    assert " road " in text


def test_check_names_a_label_id_that_no_class_has(
    bdd_root: Path, capsys: pytest.CaptureFixture
) -> None:
    label = sorted((bdd_root / "labels" / "train").iterdir())[0]
    ids = np.asarray(Image.open(label)).copy()
    ids[0, :4] = 40
    Image.fromarray(ids).save(label)
    assert check.main(["--dataset", "bdd100k", "--set", f"DATASET.BDD100K_DIR={bdd_root}"]) == 2
    assert "label id 40 (4 pixels)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("module", "fixture", "pattern"),
    [
        (bdd100k, "bdd_root", "labels/train/*.png"),
        (gtav, "gtav_root", "labels/train/*/*.png"),
    ],
)
def test_missing_label_folder_and_split_are_one_line(
    module: object, fixture: str, pattern: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    root = request.getfixturevalue(fixture)
    label = sorted(root.glob(pattern))[0]
    label.unlink()
    with pytest.raises(DataError, match=f"its label {label} is missing"):
        module.list_items(root, "train")
    with pytest.raises(DataError, match="no such folder"):
        module.list_items(tmp_path / "nowhere", "train")
    with pytest.raises(DataError, match="no split dev"):
        module.list_items(root, "dev")
