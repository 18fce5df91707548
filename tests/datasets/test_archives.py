# SPDX-License-Identifier: Apache-2.0
"""Zips and tars as they should not be: damaged, truncated, encrypted, packed in other ways."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.archives import Archive
from datasets.base import DataError, image_size, read_image
from datasets.places import at, mounted
from runtime.errors import UserError
from tests.archives import DEFLATED, STORED, write_tar, write_zip


def picture() -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / f"{name}.png").write_bytes(picture())
    return tmp_path / "source"


@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_members_are_what_was_packed(source: Path, tmp_path: Path, method: int) -> None:
    path = write_zip(tmp_path / "x.zip", {"set/deep": source}, method)
    archive = Archive(str(path))
    member = archive.member("set/deep/a.png")
    assert member is not None
    assert archive.read(member) == (source / "a.png").read_bytes()
    assert archive.member("set/deep") is None
    assert archive.member("set/deep/a.pn") is None
    assert archive.member("set/deep/a.png.png") is None
    assert archive.folders["set"].folders == ("deep",)
    assert image_size(at(path / "set" / "deep" / "b.png")) == (16, 24)


def test_an_empty_file_and_an_empty_folder_are_members(tmp_path: Path) -> None:
    (tmp_path / "source" / "none").mkdir(parents=True)
    (tmp_path / "source" / "empty.png").touch()
    path = write_zip(tmp_path / "x.zip", {"": tmp_path / "source"})
    with pytest.raises(DataError, match=r"x\.zip/empty\.png: image cannot be .* the file is empty"):
        read_image(path / "empty.png")
    assert at(path / "none").is_dir()


def test_of_two_members_with_one_name_the_later_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "first")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.txt", "second")
    assert (at(path) / "a.txt").read_text() == "second"


def test_what_the_system_of_a_packer_left_is_no_member(source: Path, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"set": source, "__MACOSX/set": source}, extra="set/._a")
    assert Archive(str(path)).top() == "set"
    assert Archive(str(path)).folders["set"].names() == ["a.png", "b.png"]


def test_names_of_unix_without_a_mark_are_their_bytes(tmp_path: Path) -> None:
    path, name = tmp_path / "x.zip", os.fsdecode(b"stra\xdfe.txt")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("stra@e.txt", "text")  # then the byte is put in, as Info-ZIP writes it
    path.write_bytes(path.read_bytes().replace(b"stra@e", b"stra\xdfe"))
    assert Archive(str(path)).folders[""].names() == [name]


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.98])
def test_a_truncated_zip_is_one_line_that_names_it(
    source: Path, tmp_path: Path, kept: float
) -> None:
    path = write_zip(tmp_path / "root" / "x.zip", {"": source})
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(UserError, match=r"root/x\.zip: a damaged or truncated zip \(.*download"):
        mounted(path.parent)
    with pytest.raises(UserError, match=r"root/x\.zip: a damaged or truncated zip"):
        mounted(path)


@pytest.mark.parametrize("method", [STORED, DEFLATED])
@pytest.mark.parametrize("place", ["header", "bytes"])
def test_damage_inside_names_the_member(
    source: Path, tmp_path: Path, method: int, place: str
) -> None:
    path = write_zip(tmp_path / "x.zip", {"": source}, method)
    content = bytearray(path.read_bytes())
    start = content.index(b"a.png") + (-30 if place == "header" else 300)
    content[start : start + 4] = b"\xff\0\xff\0"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.zip/a\.png: image cannot be read: its archive is dam"):
        read_image(path / "a.png")
    assert read_image(path / "b.png").shape == (16, 24, 3)


def test_an_encrypted_zip_is_one_line(source: Path, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"": source})
    content = bytearray(path.read_bytes())
    at_flags = content.rindex(b"PK\1\2") + 8
    content[at_flags] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.zip: b\.png is encrypted; unpack it with its passw"):
        mounted(path)


def test_another_compression_is_one_line(source: Path, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"": source}, zipfile.ZIP_BZIP2)
    with pytest.raises(UserError, match=r"x\.zip: README is compressed by bzip2; members"):
        mounted(path)


def test_a_tar_is_read_in_place_and_tars_in_it_are_folders(tmp_path: Path) -> None:
    inner = write_tar(tmp_path / "n01.tar", {"n01_1.png": picture(), "n01_2.png": picture()})
    path = write_tar(tmp_path / "x.tar", {"n01.tar": inner.read_bytes(), "./c/d.png": picture()})
    archive = Archive(str(path))
    assert archive.folders[""].folders == ("c", "n01")
    assert archive.folders["n01"].names() == ["n01_1.png", "n01_2.png"]
    for name in ("n01/n01_2.png", "c/d.png"):
        member = archive.member(name)
        assert member is not None
        assert archive.read(member) == picture()


@pytest.mark.parametrize("kept", [0, 700, 1536, -1])
def test_a_truncated_tar_is_one_line(tmp_path: Path, kept: int) -> None:
    inner = write_tar(tmp_path / "n01.tar", {"n01_1.png": picture(), "n01_2.png": picture()})
    path = write_tar(tmp_path / "x.tar", {"n01.tar": inner.read_bytes()})
    cut = inner.read_bytes().rindex(b"n01_2.png")  # the end of the first image
    path.write_bytes(path.read_bytes()[: 512 + cut if kept < 0 else kept])
    with pytest.raises(UserError, match=r"x\.tar: a damaged or truncated tar \(.*\); download it"):
        mounted(path)


def test_links_of_a_tar_are_the_files_that_they_lead_to(tmp_path: Path) -> None:
    (tmp_path / "set" / "a").mkdir(parents=True)
    (tmp_path / "set" / "a" / "x.png").write_bytes(picture())
    os.link(tmp_path / "set" / "a" / "x.png", tmp_path / "set" / "a" / "y.png")
    (tmp_path / "set" / "z.png").symlink_to("a/x.png")
    (tmp_path / "set" / "gone.png").symlink_to(tmp_path / "elsewhere.png")
    with tarfile.open(tmp_path / "x.tar", "w") as packed:
        packed.add(tmp_path / "set", "set")
    archive = Archive(str(tmp_path / "x.tar"))
    for path in ("set/a/x.png", "set/a/y.png", "set/z.png"):
        member = archive.member(path)
        assert member is not None and archive.read(member) == picture()
    assert archive.member("set/gone.png") is None


@pytest.mark.parametrize("name", ["set.tar.gz", "set.TGZ", "set.7z"])
def test_a_root_that_cannot_be_read_in_place_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=rf"{name}: cannot be read in place; unpack it, or pack"):
        mounted(tmp_path / name)


def test_a_compressed_tar_is_one_line(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    with pytest.raises(
        UserError, match=r"x\.tar: compressed, so it cannot be read in place; unpack"
    ):
        mounted(tmp_path / "x.tar")


def test_an_archive_of_someone_else_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.zip").symlink_to(tmp_path / "x.zip")
    with pytest.raises(UserError, match=r"x\.zip: cannot be read"):
        Archive(str(tmp_path / "x.zip"))
