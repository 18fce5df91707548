# SPDX-License-Identifier: Apache-2.0
"""Submissions: what a server would refuse is found before the archive is written."""

from __future__ import annotations

import dataclasses
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from config import UserError
from datasets.ade20k import SPEC as ADE20K
from datasets.cityscapes import SPEC as CITYSCAPES
from datasets.spec import Item
from reports.autolabel import AutoLabelSink
from reports.sinks import DumpIdentity
from reports.submission import SubmissionSink
from tests.reports.cases import SIZE, SPEC, alone, make_items, make_result, read

WIDE = (26001, 26, 23, 31)
NAMES = [f"lindau/lindau_{i:06}_000019_leftImg8bit" for i in range(3)]


def filled(folder: Path, names: list[str] = NAMES) -> SubmissionSink:
    """A sink with every file written."""
    sink = SubmissionSink(folder, SPEC, make_items(folder / "in", names))
    for index, name in enumerate(names):
        sink.add(make_result(name, index))
    sink.close(0, 1, alone)
    return sink


def test_files_are_flat_and_hold_raw_ids(tmp_path: Path) -> None:
    filled(tmp_path)
    mode, ids = read(tmp_path / "submit" / "lindau_000001_000019_leftImg8bit.png")
    assert mode == "L"
    assert np.array_equal(ids, np.array([7, 26, 23, 31])[make_result("", 1).pred])


def test_ids_above_255_make_files_of_16_bit_that_are_checked(tmp_path: Path) -> None:
    spec = replace(SPEC, id_to_train_id={26001: 0, 26: 1, 23: 2, 31: 3}, train_id_to_id=WIDE)
    sink = SubmissionSink(tmp_path, spec, make_items(tmp_path / "in", ["a"], (24, 32)))
    sink.add(make_result("a"))
    sink.close(0, 1, alone)
    with zipfile.ZipFile(sink.finish()) as archive, archive.open("a.png") as file:
        ids = np.asarray(Image.open(file))
    assert ids.dtype == np.uint16 and ids.shape == (24, 32)
    assert np.array_equal(ids[::2, ::2], np.array(WIDE)[make_result("a").pred])
    for wrong, words in ((ids + 5, "holds id"), (ids.astype(np.uint8), "16-bit grey wanted")):
        Image.fromarray(wrong).save(tmp_path / "submit" / "a.png")
        assert words in sink.check()[0]


def test_ids_that_no_file_can_hold_are_refused_at_the_start(tmp_path: Path) -> None:
    spec = replace(SPEC, id_to_train_id={70000: 0, 26: 1, 23: 2, 31: 3})
    spec = replace(spec, train_id_to_id=(70000, 26, 23, 31))
    with pytest.raises(UserError, match=r"class road has the id 70000.*0\.\.65535"):
        SubmissionSink(tmp_path, spec, make_items(tmp_path / "in", ["a"]))
    with pytest.raises(UserError, match="class road has the id 70000"):
        AutoLabelSink(tmp_path, spec, make_items(tmp_path / "in", ["a"]))


def test_files_fit_images_that_are_turned_or_not(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for turned in (True, False):
        for ending in ("png", "tif", "jpg"):
            path = tmp_path / f"{turned}.{ending}"
            stored = SIZE[::-1] if turned else SIZE
            Image.new("RGB", stored[::-1]).save(path, exif=exif)
            item = Item(name="a", image=path, label=None, turned=turned)
            sink = SubmissionSink(tmp_path / f"{turned}{ending}", SPEC, [item])
            sink.add(make_result("a"))
            sink.close(0, 1, alone)
            assert sink.finish().is_file()


def test_the_archive_holds_exactly_the_checked_files(tmp_path: Path) -> None:
    path = filled(tmp_path).finish()
    assert path == tmp_path / "submission.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"{Path(name).name}.png" for name in NAMES]
        for name in archive.namelist():
            assert archive.read(name) == (tmp_path / "submit" / name).read_bytes()


def test_equal_predictions_give_equal_archives(tmp_path: Path) -> None:
    first, second = (filled(tmp_path / name).finish().read_bytes() for name in "ab")
    assert first == second


def test_missing_files_are_listed_and_nothing_is_zipped(tmp_path: Path) -> None:
    sink = filled(tmp_path)
    (tmp_path / "submit" / "lindau_000001_000019_leftImg8bit.png").unlink()
    with pytest.raises(UserError, match="1 of 3 files missing: lindau_000001_000019"):
        sink.finish()
    assert not (tmp_path / "submission.zip").exists()


def test_an_old_archive_survives_a_failed_check(tmp_path: Path) -> None:
    sink = filled(tmp_path)
    before = sink.finish().read_bytes()
    (tmp_path / "submit" / "lindau_000001_000019_leftImg8bit.png").unlink()
    with pytest.raises(UserError):
        sink.finish()
    assert (tmp_path / "submission.zip").read_bytes() == before


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (Image.new("L", SIZE[::-1], 8), "holds id 8, unknown to streets"),
        (Image.new("RGB", SIZE[::-1]), "has mode RGB, 8-bit grey wanted"),
        (Image.new("L", (8, 8), 7), "is 8x8, the image 16x12"),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_file_is_named_with_its_fault(
    tmp_path: Path, picture: Image.Image | None, words: str
) -> None:
    sink = filled(tmp_path)
    path = tmp_path / "submit" / "lindau_000002_000019_leftImg8bit.png"
    if picture is None:
        path.write_bytes(path.read_bytes()[:40])
    else:
        picture.save(path)
    with pytest.raises(UserError, match=words) as error:
        sink.finish()
    assert path.name in str(error.value) and "\n" not in str(error.value)


def test_a_file_of_no_image_is_refused(tmp_path: Path) -> None:
    sink = filled(tmp_path)
    (tmp_path / "submit" / "old.png").write_bytes(b"")
    with pytest.raises(UserError, match="1 file of no image, to be removed: old.png"):
        sink.finish()


def test_names_the_cityscapes_server_would_refuse_fail_at_the_start(tmp_path: Path) -> None:
    items = make_items(tmp_path, ["holiday"])
    with pytest.raises(UserError, match="city_000000_000000.png, not holiday.png"):
        SubmissionSink(tmp_path, CITYSCAPES, items)
    SubmissionSink(tmp_path, CITYSCAPES, make_items(tmp_path, NAMES))
    SubmissionSink(tmp_path, dataclasses.replace(CITYSCAPES, custom=True), items)


def test_two_images_of_one_name_fail_at_the_start(tmp_path: Path) -> None:
    items = make_items(tmp_path, ["a/x", "b/x"])
    with pytest.raises(UserError, match="several images would be written to x.png"):
        SubmissionSink(tmp_path, SPEC, items)


def test_a_submission_continues_with_the_same_key(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", NAMES)
    SubmissionSink(tmp_path, SPEC, items, DumpIdentity(key="k")).add(make_result(NAMES[0]))
    again = SubmissionSink(tmp_path, SPEC, items, DumpIdentity(key="k"))
    assert again.done(NAMES[0]) and not again.done(NAMES[1])
    assert not SubmissionSink(tmp_path, SPEC, items, DumpIdentity(key="other")).done(NAMES[0])


def test_raw_id_255_is_a_valid_answer_where_the_data_set_says_so(tmp_path: Path) -> None:
    spec = replace(SPEC, train_id_to_id=(0, 1, 255, 2))
    sink = SubmissionSink(tmp_path, spec, make_items(tmp_path / "in", ["x"]))
    sink.add(make_result("x"))
    assert sink.check() == []


@pytest.mark.parametrize(
    ("dataset", "good", "bad"),
    [
        ("ade20k", "ADE_test_00000001", "ADE_test_1"),
        ("pascal_context", "2008_000002", "2008000002"),
        ("pascal_context_59", "2008_000002", "2008000002"),
    ],
)
def test_names_are_those_of_the_data_set(tmp_path: Path, dataset: str, good: str, bad: str) -> None:
    spec = replace(SPEC, name=dataset)
    SubmissionSink(tmp_path, spec, make_items(tmp_path / "in", [good]))
    with pytest.raises(UserError, match=f"{dataset} wants names like .*, not {bad}.png"):
        SubmissionSink(tmp_path, spec, make_items(tmp_path / "in", [bad]))


def test_ade20k_files_hold_1_to_150(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", ["ADE_test_00000001"])
    sink = SubmissionSink(tmp_path, ADE20K, items)
    sink.add(make_result("ADE_test_00000001", 0))
    sink.close(0, 1, alone)
    sink.finish()
    mode, ids = read(tmp_path / "submit" / "ADE_test_00000001.png")
    assert mode == "L"
    assert np.array_equal(ids, make_result("", 0).pred + 1)
