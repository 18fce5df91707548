# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.check`: every problem is found, and the exit code says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.class_folders import write_class_folders
from tests.datasets.conftest import save
from tools.check import main


def check(root: Path, capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    code = main(["--dataset", "cityscapes", "--set_cityscapes_root", str(root), *argv])
    return code, capsys.readouterr().out


def files(root: Path, pattern: str) -> list[Path]:
    return sorted(root.glob(f"*/*/{pattern}"))


def test_sound_set_gives_frequencies_and_notes(
    cities: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = check(cities, capsys)
    assert code == 0
    assert "train: 4 images, 32x24; mean 0.5" in text
    road = next(line for line in text.splitlines() if " road " in line)
    assert road.split() == ["0", "road", "50.000", "4", "50.000", "2", "0.000", "0"]
    assert "train: no pixel of sidewalk, building" in text
    assert "0 problems" in text


def test_what_fails_every_split_alike_is_one_problem(
    cities: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = next(cities.glob("**/gtFine"))
    labels.rename(labels.with_name("labels"))
    code, text = check(cities, capsys)
    assert code == 2 and "no folder gtFine_trainvaltest/gtFine" in text and "1 problem," in text


@pytest.mark.parametrize("kind", ["torn image", "torn label", "size", "rgb", "binary", "id"])
def test_each_problem_is_found(cities: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    image = files(cities, "train/*/*_leftImg8bit.png")[0]
    label = files(cities, "train/*/*_labelIds.png")[0]
    binary = np.zeros((24, 32), np.uint8)
    binary[3] = 255
    if kind.startswith("torn"):
        (image if kind == "torn image" else label).write_bytes(b"torn")
    elif kind != "id":
        shape = {"size": (5, 6), "rgb": (24, 32, 3), "binary": (24, 32)}[kind]
        save(label, binary if kind == "binary" else np.zeros(shape, np.uint8))
    else:
        save(label, np.full((24, 32), 88, np.uint8))
    code, text = check(cities, capsys)
    words = {
        "torn image": "image cannot be read", "torn label": "label cannot be read",
        "size": "is 6x5", "rgb": "colours (mode RGB)", "binary": "binary mask",
        "id": "label id 88 (768 pixels)",
    }  # fmt: skip
    assert code == 2
    assert words[kind] in text
    assert "1 problem," in text


def test_image_in_two_splits_is_a_problem_and_twice_in_one_a_note(
    cities: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, val = (files(cities, f"{split}/*/*_leftImg8bit.png") for split in ("train", "val"))
    shutil.copy(train[0], train[1])
    code, text = check(cities, capsys)
    assert code == 0
    assert f"the same image: {train[0]} (train) = {train[1]} (train)" in text
    shutil.copy(train[2], val[0])
    code, text = check(cities, capsys)
    assert code == 2
    assert f"{train[2]} (train) = {val[0]} (val)" in text


def test_image_without_label_is_a_problem(cities: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files(cities, "val/*/*_labelIds.png")[0].unlink()
    code, text = check(cities, capsys, "--split", "train,val")
    assert code == 2
    assert "is missing" in text
    assert "train: 4 images" in text


def test_labels_of_only_0_and_255_are_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5] = 255
    save(tmp_path / "i/a.png", np.zeros((8, 8, 3), np.uint8))
    save(tmp_path / "m/a.png", mask)
    tree = {"names": ["ground", "thing"], "splits": {"train": {"images": "i", "labels": "m"}}}
    (tmp_path / "d.yml").write_text(yaml.safe_dump(tree))
    setting = f"DATASET.CUSTOM_YAML={tmp_path}/d.yml"
    assert main(["--dataset", "custom", "--set", setting, "--split", "train"]) == 0
    assert "every label holds only 0 and 255" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--dataset", "cityscapes"], "HISEG_CITYSCAPES_DIR"),
        (["--dataset", "camvit"], "camvit"),
        (["--dataset", "camvid", "--split", "dev"], "train,val,test"),
        (["--dataset", "camvid", "--set", "DATASET.CAMVIT_DIR=x"], "CAMVID_DIR"),
    ],
)
def test_wrong_input_is_one_line(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    shown = capsys.readouterr()
    assert shown.out == shown.err
    assert len(shown.out.splitlines()) == 1
    assert words in shown.out


def check_classes(root: Path, capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    code = main(["--dataset", "imagenet", "--set", f"DATASET.IMAGENET_DIR={root}", *argv])
    return code, capsys.readouterr().out


def test_class_folders_are_counted_and_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_class_folders(tmp_path / "set", size=8, train=3, val=1, classes=3)
    (root / "train/n00000001/n00000001_0.JPEG").unlink()
    code, text = check_classes(root, capsys)
    assert code == 0 and "0 problems" in text
    assert "train: 8 images, 3 classes of 2 to 3 images" in text
    assert ["1", "n00000001", "2", "1"] in [line.split() for line in text.splitlines()]
    torn = root / "train/n00000002/n00000002_1.JPEG"
    torn.write_bytes(torn.read_bytes()[:30])
    (root / "val/n00000000/n00000000_0.JPEG").unlink()
    code, text = check_classes(root, capsys)
    assert code == 2 and "2 problems" in text
    assert f"{torn}: image cannot be read" in text and "n00000000 holds no image" in text
    shutil.rmtree(root / "val/n00000000")
    assert "n00000000 missing" in check_classes(root, capsys, "--split", "train,val")[1]
    code, text = check_classes(root, capsys, "--cv", "2")
    assert code == 2 and "--cv" in text and "no effect on class folders" in text


def test_validation_images_without_labels_are_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_class_folders(tmp_path / "set", size=8, train=1, val=0, classes=2)
    for folder in (root / "val").iterdir():
        folder.rmdir()
    (root / "val" / "a.JPEG").touch()
    code, text = check_classes(root, capsys)
    assert code == 2 and "val: 1 image without labels" in text and "train: 2 images" in text
    assert check_classes(root, capsys, "--split", "train")[0] == 0
    code, text = check_classes(root, capsys, "--split", "test")
    assert code == 2 and text == "error: --split test: class folders have train and val\n"
    code, text = check_classes(root / "train" / "n00000000", capsys)
    assert code == 2 and "train: cannot be read" in text
