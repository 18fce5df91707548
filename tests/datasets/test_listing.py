# SPDX-License-Identifier: Apache-2.0
"""Which files of a folder are images, and that none vanishes without a word."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from datasets import bdd100k, cityscapes, custom, folder, gtav, kitti, listing
from datasets.base import DataError
from datasets.decode import read_bytes
from datasets.headers import read_header
from datasets.listing import MissingFiles, notes_of
from tests.datasets.conftest import save
from tools.check import main as check

PIXELS = np.zeros((8, 9, 3), np.uint8)
IDS = np.zeros((8, 9), np.uint8)


def names(items: list) -> list[str]:
    return [item.name for item in items]


def pair(root: Path, name: str, image: str = ".png") -> None:
    save(root / "i" / f"{name}{image}", PIXELS)
    save(root / "m" / f"{name}.png", IDS)


def describe(root: Path, images: str = "i", labels: str = "m", **more: object) -> Path:
    tree = {"names": ["a", "b"], "splits": {"train": {"images": images, "labels": labels, **more}}}
    path = root / "set.yml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_linked_folders_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    save(tmp_path / "far" / "c.png", PIXELS)
    save(tmp_path / "near" / "a.png", PIXELS)
    (tmp_path / "near" / "city").symlink_to("../far")
    (tmp_path / "far" / "back").symlink_to("../near")
    (tmp_path / "near" / "self").symlink_to(".")
    assert names(folder.list_items(tmp_path / "near")) == ["a", "city/c"]


@pytest.mark.parametrize("places", [("i", "m"), ("i/**/*.png", "m/**/*.png")])
def test_linked_folders_of_a_custom_set_count(tmp_path: Path, places: tuple[str, str]) -> None:
    pair(tmp_path, "a")
    pair(tmp_path / "other", "b")
    for kind in ("i", "m"):
        (tmp_path / kind / "more").symlink_to(tmp_path / "other" / kind)
    assert names(custom.list_items(describe(tmp_path, *places), "train")) == ["a", "more/b"]


def test_a_link_to_itself_is_named_and_not_its_folder(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    (tmp_path / "i/b.png").symlink_to("b.png")
    found = listing.find(tmp_path / "i")
    assert [path.name for path in found.images] == ["a.png", "b.png"]
    with pytest.raises(DataError, match=r"b\.png: .*(symbolic links)"):
        read_header(found.images[1], "image")


def test_labels_without_image_and_unknown_endings_are_noted(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    for name in ("b", "c"):
        save(tmp_path / "m" / f"{name}.png", IDS)
    for name in ("b.heic", "c.HEIC", "d.cr2", "notes.txt", ".DS_Store", "._a.png"):
        (tmp_path / "i" / name).touch()
    items = custom.list_items(describe(tmp_path), "train")
    assert names(items) == ["a"]
    assert notes_of(items) == [
        "2 labels have no image (b, c)",
        "3 files are ignored, their endings are not known: 2 .heic, 1 .cr2",
    ]


def test_a_folder_to_predict_names_what_it_leaves_aside(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jfif"):
        save(tmp_path / f"{name}.jpg", PIXELS)
        (tmp_path / f"{name}.jpg").rename(tmp_path / name)
    (tmp_path / "c.heic").touch()
    items = folder.list_items(tmp_path)
    assert names(items) == ["a", "b"]
    assert notes_of(items) == ["1 file is ignored, its ending is not known: 1 .heic"]
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "x.heic").touch()
    with pytest.raises(DataError, match="holds no images.*1 .heic"):
        folder.list_items(tmp_path / "only")


def test_hidden_files_count_in_no_set(tmp_path: Path) -> None:
    images = tmp_path / "leftImg8bit" / "train" / "x"
    for root, end, rest in (
        (images, "_leftImg8bit.png", ""),
        (tmp_path / "gtFine" / "train" / "x", "_gtFine_labelIds.png", ""),
    ):
        for name in ("x_000000_000001", "._x_000000_000001", *([rest] if rest else [])):
            save(root / f"{name}{end}", PIXELS if root is images else IDS)
    (tmp_path / "leftImg8bit" / "val").mkdir()
    (tmp_path / "leftImg8bit" / "train" / ".Trashes").mkdir()
    found = cityscapes.list_items(tmp_path, "train")
    assert names(found) == ["x/x_000000_000001_leftImg8bit"]
    for split in ("train", "val"):
        for name in ("a.png", "._a.png"):
            save(tmp_path / "images" / split / "f" / name, PIXELS)
            save(tmp_path / "labels" / split / "f" / name, PIXELS)
    assert names(gtav.list_items(tmp_path, "train")) == ["f/a"]
    for number in range(200):
        for kind in ("image_2", "semantic"):
            path = tmp_path / "training" / kind / f"{number:06d}_10.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            path.with_name(f"._{path.name}").touch()
    assert len(kitti.list_items(tmp_path, "trainval")) == 200


def test_all_images_without_label_are_named(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        pair(tmp_path, name)
    for name in ("a", "c"):
        (tmp_path / "m" / f"{name}.png").unlink()
    with pytest.raises(MissingFiles, match=r"i/a\.png: no label a in m.*1 more file.*c\.png"):
        custom.list_items(describe(tmp_path), "train")


@pytest.mark.parametrize(
    ("images", "labels", "end"),
    [
        ("images/10k", "labels/sem_seg/masks", ""),
        ("images", "labels", "_train_id"),
        ("bdd100k/images/10k", "bdd100k/labels/sem_seg/masks", ""),
        ("seg/images", "seg/labels", "_train_id"),
    ],
)
def test_bdd100k_is_found_in_every_layout(
    tmp_path: Path, images: str, labels: str, end: str
) -> None:
    for split in ("train", "val"):
        save(tmp_path / images / split / "cabc-1.jpg", PIXELS)
        save(tmp_path / labels / split / f"cabc-1{end}.png", IDS)
    for split in ("train", "val"):
        item = bdd100k.list_items(tmp_path, split)[0]
        assert item.name == "cabc-1"
        assert item.label == tmp_path / labels / split / f"cabc-1{end}.png"


def test_a_set_without_its_test_images_is_checked_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, split in enumerate(("train", "val")):
        save(tmp_path / "images/10k" / split / "a.jpg", PIXELS + number)
        save(tmp_path / "labels/sem_seg/masks" / split / "a.png", IDS)
    root = f"DATASET.BDD100K_DIR={tmp_path}"
    assert check(["--dataset", "bdd100k", "--set", root]) == 0
    assert "only --eval test needs it" in capsys.readouterr().out


@pytest.mark.parametrize("inside", ["out", "."])
def test_what_a_run_wrote_is_no_input(tmp_path: Path, inside: str) -> None:
    save(tmp_path / "a.png", PIXELS)
    results = tmp_path / inside
    save(results / "best_images" / "a_prediction.png", PIXELS)
    items = folder.list_items(tmp_path, results=results)
    assert names(items) == ["a"]
    assert "results of this program" in notes_of(items)[0]


def test_results_of_earlier_runs_are_no_input_unless_they_are_asked_for(tmp_path: Path) -> None:
    save(tmp_path / "a.png", PIXELS)
    earlier = tmp_path / "runs" / "first"
    save(earlier / "best_images" / "a_prediction.png", PIXELS)
    for name in folder.RUN_FILES:
        (earlier / name).touch()
    assert names(folder.list_items(tmp_path)) == ["a"]
    assert names(folder.list_items(earlier / "best_images")) == ["a_prediction"]


def test_an_unreadable_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        listing.entries(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: Not a directory"):
        listing.entries(tmp_path / "file")


def test_links_that_lead_nowhere_are_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    (tmp_path / "dead.png").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    found = folder.list_items(tmp_path)
    assert names(found) == ["circle", "dead", "pipe"]
    for item in found:
        for read in (read_header, read_bytes):
            with pytest.raises(DataError, match=f"{item.name}.png: image cannot be read: "):
                read(item.image, "image")


def test_a_folder_with_letters_of_patterns_is_a_folder(tmp_path: Path) -> None:
    pair(tmp_path / "train [v2]", "a")
    for images, labels in (("i", "m"), ("i/*.png", "m/?.png")):
        path = describe(tmp_path, f"train [v2]/{images}", f"train [v2]/{labels}")
        assert names(custom.list_items(path, "train")) == ["a"]


@pytest.mark.parametrize("place", ["i/**.png", "**x/*.png", "a**b/*.png"])
def test_a_pattern_that_misuses_two_stars_is_one_line(tmp_path: Path, place: str) -> None:
    pair(tmp_path, "a")
    with pytest.raises(DataError, match=r"splits: train: images is .*\*\* stands for folders"):
        custom.list_items(describe(tmp_path, place), "train")


def test_the_home_folder_may_be_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    pair(tmp_path / "data", "a")
    path = describe(tmp_path, "~/data/i", "~/data/m")
    assert names(custom.list_items(path, "train")) == ["a"]
    path.write_text("root: ~/data\n" + describe(tmp_path).read_text())
    assert names(custom.list_items(path, "train")) == ["a"]
    assert os.path.expanduser("~") == str(tmp_path)
