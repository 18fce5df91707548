# SPDX-License-Identifier: Apache-2.0
"""Automatic labels: raw ids and truncated confidences at the size of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from config import UserError
from reports.autolabel import AutoLabelSink
from tests.reports.cases import SPEC, alone, make_items, make_result, read


def test_ids_are_raw_and_confidences_truncated(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", ["city/x"])
    sink = AutoLabelSink(tmp_path / "out", SPEC, items, key="k")
    result = make_result("city/x")
    sink.add(result)
    sink.close(0, 1, alone)
    mode, ids = read(tmp_path / "out" / "city" / "x.png")
    assert mode == "L" and np.array_equal(ids, np.array([7, 26, 23, 31])[result.pred])
    mode, prob = read(tmp_path / "out" / "city" / "x_prob.png")
    assert mode == "L" and np.array_equal(prob, np.floor(result.prob * 255))
    assert [row.name for row in sink.rows] == ["city/x"]
    assert AutoLabelSink(tmp_path / "out", SPEC, items, key="k").done("city/x")


def test_an_image_evaluated_at_another_scale_is_brought_back(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", ["x"], size=(24, 32))
    AutoLabelSink(tmp_path / "out", SPEC, items).add(make_result("x"))
    _, ids = read(tmp_path / "out" / "x.png")
    assert ids.shape == (24, 32)
    assert np.array_equal(ids[::2, ::2], np.array([7, 26, 23, 31])[make_result("x").pred])


def test_a_cropped_image_is_refused(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", ["x"], size=(32, 32))
    with pytest.raises(UserError, match="x: predicted at 16x12, the file is 32x32"):
        AutoLabelSink(tmp_path / "out", SPEC, items).add(make_result("x"))
