# SPDX-License-Identifier: Apache-2.0
"""The program predict.py on folders, names and exports that are not as they should be."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.predict import ExportedModel, ModelError, main
from tests.deploy.red import changed, red_export
from tests.full_disk import REASON, full_after


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return red_export(tmp_path / "model")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """One image, and one whose name has a line break."""
    place = tmp_path / "in"
    place.mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name in ("a.png", "b\nc.png"):
        cv2.imwrite(str(place / name), picture)
    return place


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[str], list[str]]:
    """Exit code, lines of stdout, lines of stderr."""
    code = main([os.fspath(word) if isinstance(word, Path) else str(word) for word in words])
    shown = capsys.readouterr()
    return code, shown.out.splitlines(), shown.err.splitlines()


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"ids": []}, "classes and ids are not equally many"),
        ({"ids": [7]}, "classes and ids are not equally many"),
        ({"ids": ["a", "b"]}, "entry ids is"),
        ({"ids": [7, 70000]}, "entry ids is"),
        ({"ids": [-1, 7]}, "entry ids is"),
        ({"classes": []}, "entry classes is"),
        ({"size": [8]}, "entry size is"),
        ({"size": "8,8"}, "entry size is"),
        ({"smallest": [8]}, "entry smallest is"),
        ({"multiple": 0}, "entry multiple is 0"),
        ({"input": {}}, "entry input is"),
        ({"input": {"name": "x"}}, "is not the graph that model.json describes"),
        ({"output": "masks"}, "entry output is 'masks'"),
        ({"output": "scores"}, "is not the graph that model.json describes"),
    ],
)
def test_an_edited_model_json_is_refused_in_one_line(
    folder: Path, images: Path, entries: dict[str, object], words: str,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    changed(folder, **entries)
    code, _, errors = call(capsys, folder, images, "--out", tmp_path / "out")
    assert code == 2 and len(errors) == 1 and words in errors[0]
    assert not (tmp_path / "out").exists()


def test_classes_that_model_json_lacks_are_an_error_of_the_image(folder: Path) -> None:
    changed(folder, classes=["dark"], ids=[0])
    with pytest.raises(ModelError, match="the graph has more classes than model.json"):
        ExportedModel(folder).ids(np.full((8, 8, 3), 255, np.uint8))


def test_a_name_with_a_line_break_is_shown_on_one_line(
    folder: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines, _ = call(capsys, folder, images, "--out", tmp_path / "out")
    assert code == 0 and len(lines) == 2
    assert (tmp_path / "out" / "b\nc.png").is_file()


def test_a_dead_link_costs_a_line_that_names_it_once(
    folder: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "dead.jpg").symlink_to("nothing.jpg")
    code, lines, errors = call(capsys, folder, images, "--out", tmp_path / "out")
    assert code == 3 and len(lines) == 2
    assert errors == [f"failed: {images / 'dead.jpg'}: No such file or directory"]


def test_a_call_without_images_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = call(capsys, folder, "--out", folder / "out")
    assert code == 2 and errors == ["error: no images in the call"]


def test_a_full_disk_leaves_no_part_of_a_file(
    folder: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with full_after(20):
        code, _, errors = call(capsys, folder, images, "--out", tmp_path / "out")
    assert code == 3 and len(errors) == 2 and REASON in errors[0]
    assert list((tmp_path / "out").iterdir()) == []


def test_an_out_that_is_a_file_is_refused_before_any_image(
    folder: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, errors = call(capsys, folder, images, "--out", images / "a.png")
    assert code == 2 and len(errors) == 1 and "File exists" in errors[0]


def test_an_image_is_never_written_over(
    folder: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (images / "a.png").read_bytes()
    for more in ((), ("--overwrite",)):
        code, _, errors = call(capsys, folder, images / "a.png", "--out", images, *more)
        assert code == 2 and len(errors) == 1 and "unless it is an input" in errors[0]
        assert call(capsys, folder, images, "--out", images, *more)[0] == 2
    assert (images / "a.png").read_bytes() == before


def test_ids_of_an_earlier_call_are_no_images(
    folder: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ((), ("--overwrite",)):
        code, lines, _ = call(capsys, folder, images, "--out", images / "ids", *more)
        assert code == 0 and len(lines) == 2
    assert len(list((images / "ids").iterdir())) == 2
