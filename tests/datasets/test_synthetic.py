# SPDX-License-Identifier: Apache-2.0
"""Synthetic streets: the same bytes for the same seed, the layout, the classes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from config import UserError
from datasets import cityscapes, synthetic
from datasets.base import SegmentationDataset, read_ids
from datasets.synthetic import ScenePlan, auto_label, coarse_label, main, write_synthetic
from datasets.synthetic_scene import render
from tests.full_disk import REASON, full_after


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set") / "streets"
    assert write_synthetic(root, ScenePlan(size=(64, 96), train=6, val=2, test=1, coarse=2))
    return root


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    return [render((0, 0, number), 96, 192) for number in range(12)]


def test_same_arguments_give_the_same_bytes(small: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "again", ScenePlan(size=(64, 96), train=6, val=2, test=1, coarse=2))
    assert digests(tmp_path / "again") == digests(small)


def test_another_seed_gives_other_scenes() -> None:
    assert (render((0, 0, 0), 64, 64)[0] != render((1, 0, 0), 64, 64)[0]).any()


def test_a_larger_set_begins_with_the_smaller_one(small: Path) -> None:
    path = next(small.glob("leftImg8bit_trainvaltest/leftImg8bit/train/*/*_000000_*.png"))
    assert (np.asarray(Image.open(path)) == render((0, 0, 0), 64, 96)[0]).all()


@pytest.mark.parametrize("size", [(32, 32), (64, 65), (97, 48), (100, 200)])
def test_any_size_is_drawn(size: tuple[int, int]) -> None:
    image, ids = render((0, 0, 3), *size)
    assert image.shape == (*size, 3)
    assert ids.shape == size
    assert image.dtype == ids.dtype == np.uint8


def test_a_scene_is_the_same_street_at_every_size() -> None:
    _, small_ids = render((0, 0, 5), 64, 128)
    _, large_ids = render((0, 0, 5), 128, 256)
    assert (
        cv2.resize(large_ids, (128, 64), interpolation=cv2.INTER_NEAREST) == small_ids
    ).mean() > 0.9


def test_labels_hold_known_ids_and_some_void(scenes: list) -> None:
    lut = synthetic.SPEC.lut()
    for _, ids in scenes:
        mapped = lut[ids]
        assert (mapped != -1).all()
        assert 0.02 < (mapped == 255).mean() < 0.2


def test_most_classes_occur_and_rare_ones_are_rare(scenes: list) -> None:
    lut = synthetic.SPEC.lut()
    counts = sum(np.bincount(lut[ids].ravel(), minlength=256) for _, ids in scenes)
    shares = counts[:19] / counts[:19].sum()
    assert (shares > 0).sum() >= 15
    named = dict(zip(synthetic.SPEC.class_names, shares, strict=True))
    assert named["road"] > 0.15
    assert named["building"] > 0.05
    assert named["sky"] > 0.03
    for name in ("train", "motorcycle", "rider", "traffic light", "bicycle"):
        assert named[name] < 0.02


def test_streets_have_perspective(scenes: list) -> None:
    lut = synthetic.SPEC.lut()
    road = np.mean([lut[ids] == 0 for _, ids in scenes], axis=0)
    sky = np.mean([lut[ids] == 10 for _, ids in scenes], axis=0)
    height = road.shape[0]
    assert road[: height // 3].max() < 0.05
    assert sky[height // 2 :].max() == 0
    assert road[int(0.8 * height)].mean() > 2 * road[int(0.52 * height)].mean()


def test_light_differs_between_scenes(scenes: list) -> None:
    means = [image.mean() for image, _ in scenes]
    assert max(means) > 1.3 * min(means)


def test_layout_is_that_of_cityscapes(small: Path) -> None:
    image = (
        "leftImg8bit_trainvaltest/leftImg8bit/train/altmoor/altmoor_000000_000019_leftImg8bit.png"
    )
    label = "gtFine_trainvaltest/gtFine/train/altmoor/altmoor_000000_000019_gtFine_labelIds.png"
    assert (small / image).is_file()
    assert (small / label).is_file()
    for split, count in (("train", 6), ("val", 2), ("test", 1)):
        items = cityscapes.list_items(small, split, test_labels=True)
        assert len(items) == count
        assert SegmentationDataset(items, synthetic.SPEC)[0].size == (64, 96)


def test_splits_share_no_city(small: Path) -> None:
    cities = [
        {item.name.split("/")[0] for item in synthetic.list_items(small, split)}
        for split in ("train", "val", "test")
    ]
    assert len(set.union(*cities)) == sum(len(names) for names in cities)


def test_coarse_and_auto_labels_lie_where_the_real_ones_do(small: Path) -> None:
    extra = small / "leftImg8bit_trainextra/leftImg8bit/train_extra"
    frames = [path.relative_to(extra) for path in sorted(extra.rglob("*_leftImg8bit.png"))]
    assert len(frames) == 2
    for frame in frames:
        coarse = frame.with_name(frame.name.replace("leftImg8bit", "gtCoarse_labelIds"))
        assert read_ids(small / "gtCoarse/gtCoarse/train_extra" / coarse).shape == (64, 96)
        auto = small / "autolabelled/train_extra" / frame
        assert set(np.unique(read_ids(auto))) <= set(synthetic.SPEC.train_id_to_id)
        assert auto.with_name(auto.name.replace(".png", "_prob.png")).is_file()


def test_coarse_label_is_right_where_it_says_something() -> None:
    _, ids = render((0, 0, 1), 128, 256)
    coarse = coarse_label(ids)
    assert (coarse[coarse > 0] == ids[coarse > 0]).all()
    assert 0.3 < (coarse > 0).mean() < 0.95


def test_auto_label_is_mostly_right_and_surer_where_it_is() -> None:
    _, ids = render((0, 0, 1), 128, 256)
    guess, prob = auto_label(ids, np.random.default_rng(0))
    counted = np.isin(ids, synthetic.SPEC.train_id_to_id)
    right = guess == ids
    assert right[counted].mean() > 0.9
    assert prob[counted & right].mean() > prob[counted & ~right].mean() + 20


def test_second_run_does_nothing(small: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    said: list[str] = []
    arguments = {"size": (64, 96), "train": 6, "val": 2, "test": 1, "coarse": 2}
    assert not write_synthetic(small, ScenePlan(**arguments), log=said.append)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before
    assert "already" in said[0]


def test_other_arguments_need_force(tmp_path: Path) -> None:
    root = tmp_path / "set"
    tiny = {"size": (32, 64), "train": 1, "val": 1, "test": 1}
    write_synthetic(root, ScenePlan(**tiny))
    with pytest.raises(UserError, match="other arguments.*--force"):
        write_synthetic(root, ScenePlan(**tiny, seed=1))
    assert write_synthetic(root, ScenePlan(**tiny, seed=1), force=True)
    assert json.loads((root / "synthetic.json").read_text())["seed"] == 1


@pytest.mark.parametrize("force", [False, True])
def test_folder_with_other_files_is_left_alone(tmp_path: Path, force: bool) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="name a new folder"):
        write_synthetic(tmp_path, ScenePlan(train=1, val=1, test=1), force=force)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    with full_after(100), pytest.raises(UserError, match=REASON):
        write_synthetic(tmp_path / "set", ScenePlan(size=(32, 32), train=1, val=1, test=1))
    assert list(tmp_path.iterdir()) == []


def test_command_line_reports_wrong_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "file")]) == 2
    assert capsys.readouterr().out.startswith("error: ")
    assert (
        main([str(tmp_path / "ok"), "--size", "32,64", "--train", "1", "--val", "0", "--test", "0"])
        == 0
    )
