# SPDX-License-Identifier: Apache-2.0
"""Names from data never lead out of their folder, and always fit into a file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.files import leftovers, partial_name, write_atomic
from runtime.names import OutsideError, fitted, inside, is_cut, output, part, printable


@pytest.mark.parametrize(
    "text", ["../../x", "..", ".", "", "/etc/passwd", "a\\..\\b", "x\0y", "a\nb", "a" * 300]
)
def test_any_text_becomes_one_part_of_a_path(tmp_path: Path, text: str) -> None:
    name = part(text)
    (tmp_path / name).write_text("here")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(os.fsencode(name)) <= 255


def test_usual_names_stay_as_they_are() -> None:
    for name in ("harbour", "Straße 50%", "..hidden", "a.b-c_d", "漢字"):
        assert part(name) == name


@pytest.mark.parametrize("name", ["../x", "a/../../x", "..", "/", ""])
def test_image_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutsideError, match="leave the output directory"):
        inside(tmp_path, name)


def test_image_names_keep_their_folders_inside_of_the_root(tmp_path: Path) -> None:
    assert inside(tmp_path, "/aachen/./x") == tmp_path / "aachen" / "x"
    assert inside(tmp_path, "a\\..\\..\\x") == tmp_path / "a%5C..%5C..%5Cx"
    assert str(output("a/x", before="composited_", after=".png")) == "a/composited_x.png"


@pytest.mark.parametrize("letter", ["a", "漢", "\udce9"])
def test_too_long_names_are_cut_differ_and_are_the_same_every_time(letter: str) -> None:
    long = letter * (250 // len(os.fsencode(letter)))
    names = [str(output(f"d/{long}{end}", after="_prediction.png")) for end in "xyx"]
    assert names[0] == names[2] != names[1]
    for name in names:
        assert name.endswith("_prediction.png")
        assert 240 < len(os.fsencode(name.removeprefix("d/"))) <= 255
    assert is_cut(f"d/{long}x", names[0]) and not is_cut("d/x", "d/x_input.png")
    assert fitted("x" * 255) == "x" * 255


def test_bytes_that_are_no_text_can_be_shown() -> None:
    assert printable("caf\udce9 ü") == "caf%E9 ü"


def test_a_file_of_the_longest_name_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_atomic(path, b"content")
    assert path.read_bytes() == b"content"
    assert list(tmp_path.iterdir()) == [path]


def test_partial_files_are_known_as_such(tmp_path: Path) -> None:
    partial = partial_name(tmp_path / "last_checkpoint_ep1.pth")
    partial.write_bytes(b"half")
    assert leftovers(tmp_path) == [partial]
