# SPDX-License-Identifier: Apache-2.0
"""Automatic labels: raw ids and truncated confidences at the size of the file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from config import UserError
from reports.autolabel import PAGE, AutoLabelSink, confidence_counts
from reports.autolabel_page import NUM_STEPS, kept_shares
from reports.sinks import DumpIdentity
from tests.reports.cases import SPEC, alone, make_items, make_result, read


def test_ids_are_raw_and_confidences_truncated(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", ["city/x"])
    sink = AutoLabelSink(tmp_path / "out", SPEC, items, DumpIdentity(key="k"))
    result = make_result("city/x")
    sink.add(result)
    sink.close(0, 1, alone)
    mode, ids = read(tmp_path / "out" / "city" / "x.png")
    assert mode == "L" and np.array_equal(ids, np.array([7, 26, 23, 31])[result.pred])
    mode, prob = read(tmp_path / "out" / "city" / "x_prob.png")
    assert mode == "L" and np.array_equal(prob, np.floor(result.prob * 255))
    assert [row.name for row in sink.rows] == ["city/x"]
    assert AutoLabelSink(tmp_path / "out", SPEC, items, DumpIdentity(key="k")).done("city/x")


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


def test_counts_by_confidence_are_what_a_threshold_keeps() -> None:
    rng = np.random.default_rng(0)
    pred = rng.integers(0, 4, (20, 30), dtype=np.uint8)
    prob = rng.integers(0, 256, (20, 30), dtype=np.uint8)
    found = confidence_counts(pred, prob)
    counts = np.array([found[str(number)] for number in range(4)])
    for step in range(NUM_STEPS):
        shares = [(prob[pred == k] / 255 >= step / NUM_STEPS).mean() for k in range(4)]
        assert np.allclose(kept_shares(counts, step), shares)


def test_worker_processes_write_the_same_files_and_continue(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", [f"city/{number}" for number in range(5)])
    found = {}
    for workers in (0, 1):
        out = tmp_path / str(workers)
        sink = AutoLabelSink(out, SPEC, items, DumpIdentity(key="k"), workers=workers)
        for index, item in enumerate(items):
            sink.add(make_result(item.name, index=index))
        sink.close(0, 1, alone)
        assert [row.index for row in sink.rows] == list(range(5))
        sink.finish(None, {})
        files = sorted(path for path in out.rglob("*") if path.suffix in (".png", ".html"))
        found[workers] = [(path.relative_to(out), path.read_bytes()) for path in files]
        again = AutoLabelSink(out, SPEC, items, DumpIdentity(key="k"))
        assert all(again.done(item.name) for item in items)
    assert len(found[0]) == 11
    assert found[0] == found[1]


def test_page_shows_what_every_class_keeps(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", ["a", "b"])
    sink = AutoLabelSink(tmp_path / "out", SPEC, items, DumpIdentity(key="k"))
    results = [make_result("a", index=0), make_result("b", index=1)]
    for result in results:
        sink.add(result)
    sink.close(0, 1, alone)
    text = sink.finish(0.7, {"snapshot": "teacher.pth"}).read_text()
    cells = re.findall(r'data-class="(\d+)">([\d.]*)<', text)
    for number, shown in cells:
        levels = [np.floor(r.prob[r.pred == int(number)] * 255) / 255 for r in results]
        kept = np.concatenate(levels) >= 0.7
        assert shown == (f"{100 * kept.mean():.2f}" if kept.size else "")
    assert len(cells) == SPEC.num_classes
    assert "teacher.pth" in text
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert (tmp_path / "out" / PAGE).is_file()
