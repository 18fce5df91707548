# SPDX-License-Identifier: Apache-2.0
"""results.json: plain numbers, null for what has no value."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from reports.results import plain, write_results
from tests.reports.cases import SPEC, make_result, make_summary

PROTOCOL = {"n_scales": (0.5, 1.0), "flip": False, "snapshot": Path("x.pth"), "nan": np.nan}


def test_scores_classes_protocol_and_counts_are_plain_json(tmp_path: Path) -> None:
    summary = make_summary([make_result("a"), make_result("b", 1)], unreadable=["c: truncated"])
    returned = write_results(tmp_path / "results.json", summary, SPEC, PROTOCOL)
    content = json.loads((tmp_path / "results.json").read_text())
    assert content == returned
    assert summary.scores is not None
    assert content["metrics"]["mean_iu"] == summary.scores.mean_iu
    assert content["metrics"]["loss"] == 0.5
    road, tram = content["classes"][0], content["classes"][3]
    assert road["name"] == "road" and road["iou"] == float(summary.scores.iou[0])
    assert road["precision"] == float(summary.scores.precision[0])
    assert tram["absent"] and tram["iou"] is None and tram["recall"] is None
    assert content["confusion"] == summary.scores.matrix.tolist()
    assert content["protocol"] == {
        "n_scales": [0.5, 1.0], "flip": False, "snapshot": "x.pth", "nan": None,
    }  # fmt: skip
    assert content["counts"] == {
        "images": 2, "skipped": 0, "unreadable": 1, "not_finite": 0,
    }  # fmt: skip


def test_an_evaluation_without_labels_has_null_scores(tmp_path: Path) -> None:
    summary = make_summary([], scores=None, loss=None)
    content = write_results(tmp_path / "results.json", summary, SPEC, {})
    assert set(content["metrics"].values()) == {None}
    assert content["classes"] is None and content["confusion"] is None


def test_plain_turns_arrays_and_numpy_scalars_into_json_types() -> None:
    value = {"a": np.float32(0.5), 2: (np.int64(3), np.array([1.0, np.inf]))}
    assert plain(value) == {"a": 0.5, "2": [3, [1.0, None]]}
