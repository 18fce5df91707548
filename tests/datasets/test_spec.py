# SPDX-License-Identifier: Apache-2.0
"""Class tables."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from datasets import camvid, cityscapes
from datasets.spec import read_spec_csv


def test_cityscapes_has_19_classes_and_maps_void_to_255() -> None:
    spec = cityscapes.SPEC
    assert spec.num_classes == 19
    assert spec.class_names[0] == "road"
    assert spec.lut()[[7, 33, 0, 29]].tolist() == [0, 18, 255, 255]


def test_ids_outside_the_table_are_minus_one() -> None:
    assert set(np.flatnonzero(cityscapes.SPEC.lut() == -1)) == set(range(34, 256))


def test_camvid_void_is_ignored_and_not_a_class() -> None:
    assert camvid.SPEC.num_classes == 11
    assert camvid.SPEC.lut()[11] == camvid.SPEC.ignore_label == 255


def test_inverse_lut_gives_back_the_raw_ids() -> None:
    spec = cityscapes.SPEC
    assert (spec.lut()[spec.inverse_lut()[:19]] == np.arange(19)).all()


def test_flat_palette_has_768_values() -> None:
    flat = camvid.SPEC.flat_palette()
    assert len(flat) == 768
    assert flat[3:6] == [128, 0, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"palette": ((0, 0, 0),)}, "1 colours"),
        ({"ignore_label": 3}, "ignore label 3"),
        ({"id_to_train_id": {1 << 40: 0}}, "raw id 1099511627776 is outside"),
        ({"id_to_train_id": {5: 40}}, "maps to 40"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(camvid.SPEC, **change)


def test_table_with_a_gap_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("id,train_id,name,r,g,b\n0,0,a,0,0,0\n1,2,b,0,0,0\n")
    with pytest.raises(ValueError, match="gap"):
        read_spec_csv(table, "t")


def test_table_without_a_column_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("id,name,r,g,b\n0,a,0,0,0\n")
    with pytest.raises(ValueError, match="train_id"):
        read_spec_csv(table, "t")
