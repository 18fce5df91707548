# SPDX-License-Identifier: Apache-2.0
"""The table of common classes: it covers what it lists, and says what is wrong with others."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets import registry, table
from datasets.base import DataError
from datasets.common_classes import read_table

TABLE = read_table()


@pytest.mark.parametrize("name", sorted(TABLE.rows))
def test_every_class_of_a_listed_set_is_mapped_or_named_as_without_counterpart(name: str) -> None:
    assert set(TABLE.rows[name]) == set(registry.spec_of(name, None).class_names)


def test_the_sets_of_street_scenes_are_listed() -> None:
    cityscapes = table.names(lambda row: row.cityscapes_classes and row.kind == table.PAIRS)
    assert set(TABLE.rows) == {*cityscapes, "camvid"}
    assert not {name for row in TABLE.rows.values() for name, meaning in row.items() if not meaning}


def test_each_common_class_is_one_of_a_set(tmp_path: Path) -> None:
    used = {term for row in TABLE.rows.values() for terms in row.values() for term in terms}
    assert used == set(TABLE.common) and len(TABLE.common) == len(used)


def test_classes_of_other_sets_mean_what_their_names_say() -> None:
    names = ("Traffic-Light", "Road", "quay")
    found = TABLE.meanings("harbour", names)
    assert found == (frozenset({"traffic light"}), frozenset({"road"}), frozenset())


def test_a_file_adds_rows_and_terms_and_replaces_rows(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(
        "common: [water]\nharbour: {sea: water, lamp: [traffic light], quay: []}\n"
        "camvid: {Sky: sky}\n"
    )
    mine = read_table(path)
    assert mine.meanings("harbour", ("quay", "lamp", "Sea")) == (
        frozenset(), frozenset({"traffic light"}), frozenset({"water"}),
    )  # fmt: skip
    assert mine.meanings("camvid", ("Sky",)) == (frozenset({"sky"}),)
    assert mine.meanings("kitti", tuple(TABLE.rows["kitti"])) == tuple(TABLE.rows["kitti"].values())


def test_a_set_of_the_user_has_no_row_of_this_project(tmp_path: Path) -> None:
    names = ("Car", "Tree")
    assert TABLE.meanings("camvid", names, custom=True) == (frozenset({"car"}), frozenset())
    path = tmp_path / "mine.yml"
    path.write_text("camvid: {Car: car, Tree: vegetation}")
    found = read_table(path).meanings("camvid", names, custom=True)
    assert found == (frozenset({"car"}), frozenset({"vegetation"}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "cannot be read as YAML"),
        ("- camvid", "a mapping from data sets"),
        ("common: road", "common: a list of names wanted, got 'road'"),
        ("harbour: [sea]", "harbour: a mapping from classes"),
        ("harbour: {sea: {a: b}}", r"harbour: sea: a common class, a list of them or \[\]"),
        ("harbour: {sea: rode}", "harbour: sea: rode is no common class; did you mean road?"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        read_table(path)
    assert str(caught.value).startswith(str(path))


def test_a_row_that_does_not_fit_its_set_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("harbour: {sea: road, ky: []}")
    mine = read_table(path)
    with pytest.raises(DataError, match=r"mine.yml: harbour: has no class ky; did you mean sky\?"):
        mine.meanings("harbour", ("sea", "sky"))
    with pytest.raises(DataError, match="says nothing of class boat"):
        mine.meanings("harbour", ("sea", "ky", "boat"))
