# SPDX-License-Identifier: Apache-2.0
"""Lists of images: for the splits of a custom set, for a folder evaluation, of CamVid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from datasets import camvid, custom, folder
from datasets.base import DataError
from datasets.list_files import read_lines, split_pair
from tests.datasets.conftest import save


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    for name in ("2007_01", "2007_02", "sub/b c"):
        save(tmp_path / "JPEGImages" / f"{name}.jpg", np.zeros((8, 9, 3), np.uint8))
        save(tmp_path / "Masks" / f"{name}.png", np.zeros((8, 9), np.uint8))
    return tmp_path


def listed(root: Path, text: str, **entry: str) -> list:
    (root / "train.txt").write_text(text)
    tree = {"names": ["a", "b"], "splits": {"train": {"list": "train.txt", **entry}}}
    (root / "set.yml").write_text(yaml.safe_dump(tree))
    return custom.list_items(root / "set.yml", "train")


FOLDERS = {"images": "JPEGImages", "labels": "Masks"}


def test_stems_are_looked_up_in_the_folders(voc: Path) -> None:
    items = listed(voc, "2007_02\n\n# later\nsub/b c\n", **FOLDERS)
    assert [item.name for item in items] == ["2007_02", "sub/b c"]
    assert items[1].label == voc / "Masks" / "sub" / "b c.png"


@pytest.mark.parametrize("separator", [" ", "\t", ",", ";", " ; "])
def test_lines_may_name_image_and_label(voc: Path, separator: str) -> None:
    text = "".join(
        f"JPEGImages/{name}.jpg{separator}Masks/{name}.png\n" for name in ("2007_01", "sub/b c")
    )
    items = listed(voc, text)
    assert [item.name for item in items] == ["2007_01", "sub/b c"]
    assert items[1].label == voc / "Masks" / "sub" / "b c.png"


def test_paths_may_be_absolute_or_have_backslashes(voc: Path) -> None:
    text = f"{voc}/JPEGImages/2007_01.jpg {voc}/Masks/2007_01.png\n"
    text += "JPEGImages\\2007_02.jpg Masks\\2007_02.png"
    assert [item.name for item in listed(voc, text)] == ["2007_01", "2007_02"]


def test_a_list_of_images_alone_has_no_labels(voc: Path) -> None:
    assert [item.label for item in listed(voc, "JPEGImages/2007_01.jpg\n")] == [None]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2007_01\n2007_09\nx\n", ["train.txt: line 2: 2007_09: no such image", "1 more line: 3"]),
        ("2007_01\n2007_01\n", ["line 2", "already in line 1"]),
        ("", ["lists no images"]),
        ("2007_01 nowhere.png", ["line 1: nowhere.png: no such label"]),
    ],
)
def test_lines_that_do_not_fit_are_named(voc: Path, text: str, words: list[str]) -> None:
    with pytest.raises(DataError) as raised:
        listed(voc, text, **FOLDERS)
    assert "\n" not in str(raised.value)
    for word in words:
        assert word in str(raised.value)


def test_a_line_without_label_among_others_is_named(voc: Path) -> None:
    text = "JPEGImages/2007_01.jpg Masks/2007_01.png\nJPEGImages/2007_02.jpg"
    with pytest.raises(DataError, match=r"2007_02\.jpg: no label in its line"):
        listed(voc, text)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"list": 3}, "list must be a text file"),
        ({"list": "no.txt"}, "which is not a file"),
        ({"images": "train.txt"}, "a list of images belongs under list"),
    ],
)
def test_wrong_entries_are_one_line(voc: Path, entry: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        listed(
            voc, "2007_01", **{**({"list": "train.txt"} if "images" not in entry else {}), **entry}
        )


def test_a_mark_in_front_is_no_letter_and_other_encodings_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa b\n")
    assert read_lines(path) == [(1, "a b")]
    path.write_bytes(b"a b\ncaf\xe9 c\n")
    with pytest.raises(DataError, match=r"list\.txt: line 2 is not UTF-8 \(byte 0xe9\)"):
        read_lines(path)
    path.write_bytes("a b".encode("utf-16"))
    with pytest.raises(DataError, match="UTF-8"):
        read_lines(path)


@pytest.mark.parametrize("letter", ["\x0b", "\x1c", "\x85", "\u2028"])
def test_only_ends_of_lines_part_lines(voc: Path, letter: str) -> None:
    for folder_, end in (("JPEGImages", "jpg"), ("Masks", "png")):
        (voc / folder_ / f"2007_01.{end}").rename(voc / folder_ / f"20{letter}07.{end}")
    places = {"images": "JPEGImages", "labels": "Masks"}
    items = listed(voc, f"20{letter}07\r2007_02\r\n\n", **places)
    assert [item.name for item in items] == [f"20{letter}07", "2007_02"]
    with pytest.raises(DataError, match="line 1: 2007_01.2007_02: no such image"):
        listed(voc, f"2007_01{letter}2007_02", **places)


def test_names_with_blanks_are_split_where_both_halves_exist() -> None:
    known = {("a b", "c d")}
    assert split_pair("a b c d", lambda *halves: halves in known) == ("a b", "c d")
    assert split_pair("a b c", lambda *halves: halves in known) is None


def test_camvid_lists_may_have_a_mark_and_blanks_in_names(tmp_path: Path) -> None:
    save(tmp_path / "train" / "t 1.png", np.zeros((8, 9, 3), np.uint8))
    save(tmp_path / "trainannot" / "t 1.png", np.zeros((8, 9), np.uint8))
    (tmp_path / "train.txt").write_bytes(b"\xef\xbb\xbftrain/t 1.png trainannot/t 1.png\n")
    assert [item.name for item in camvid.list_items(tmp_path, "train")] == ["t 1"]


def test_one_image_and_a_list_can_be_predicted(voc: Path) -> None:
    image = voc / "JPEGImages" / "2007_01.jpg"
    assert [(item.name, item.image) for item in folder.list_items(image)] == [("2007_01", image)]
    path = voc / "some.txt"
    path.write_text(f"JPEGImages/2007_02.jpg\n{voc}/JPEGImages/sub/b c.jpg\n")
    assert [item.name for item in folder.list_items(path)] == ["2007_02", "sub/b c"]
    path.write_text("JPEGImages/2007_02.jpg\nabsent.jpg\nJPEGImages/2007_02.jpg\n")
    with pytest.raises(DataError, match=r"some\.txt: line 2: absent\.jpg: no such.*1 more line"):
        folder.list_items(path)
