# SPDX-License-Identifier: Apache-2.0
"""Boundary F of an evaluation: summed over images and ranks, shown with the other scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config import UserError
from datasets.spec import zero_label_ids
from metrics.boundary import boundary_f
from metrics.distance_crop import distance_window
from reports.boundary import BoundarySink
from reports.page import write_page
from reports.results import make_results
from tests.reports.cases import SPEC, alone, make_result, make_summary

RESULTS = [make_result(str(i), i, wrong=0.1 * i) for i in range(5)]


def filled(threshold: float = 1.0, **options: Any) -> BoundarySink:
    sink = BoundarySink(SPEC, (threshold,), **options)
    for result in RESULTS:
        sink.add(result)
    return sink


def test_scores_are_the_mean_over_images() -> None:
    sink = filled()
    sink.close(0, 1, alone)
    each = [boundary_f(r.pred, r.label, SPEC.num_classes, (1.0,))[0, 0] for r in RESULTS]
    assert np.allclose(sink.scores.f_score(), np.mean(each, 0))


def test_two_ranks_have_the_scores_of_one() -> None:
    parts = [BoundarySink(SPEC, (1.0,)) for _ in range(2)]
    for number, result in enumerate(RESULTS):
        parts[number % 2].add(result)
    values = [(s.num_images, s.sums, s.counted) for s in (sink.scores for sink in parts)]
    whole = filled()
    for rank, sink in enumerate(parts):
        sink.close(rank, 2, lambda value: values)
        assert sink.scores.num_images == 5
        assert np.allclose(sink.scores.f_score(), whole.scores.f_score())


def test_an_image_without_label_does_not_count() -> None:
    sink = filled()
    sink.add(make_result("x", label=None, confusion=None))
    assert sink.scores.num_images == len(RESULTS)


def test_table_has_every_class_and_the_mean() -> None:
    scores = filled().scores
    lines = scores.table(SPEC.class_names).splitlines()
    assert [line.split()[0] for line in lines] == ["boundary", *SPEC.class_names, "mean"]
    assert float(lines[-1].split()[1]) == pytest.approx(100 * scores.mean_f(), abs=0.005)
    assert "nan" not in BoundarySink(SPEC).scores.table(SPEC.class_names)


def test_a_crop_scores_the_window_alone() -> None:
    sink, crop = filled(crop=(6, 8)), (6, 8)
    each = [
        boundary_f(r.pred[window], r.label[window], SPEC.num_classes, (1.0,))[0, 0]
        for r in RESULTS
        for window in [distance_window(*r.label.shape, crop)]
    ]
    assert np.allclose(sink.scores.f_score(), np.mean(each, 0))


def test_raw_labels_are_one_class_above_the_prediction() -> None:
    shifted = replace(
        SPEC, id_to_train_id=zero_label_ids(4), train_id_to_id=(1, 2, 3, 4), zero_label=True
    )
    pred = np.zeros((8, 8), np.uint8)
    pred[:, 4:] = 1
    label = pred - 1  # raw 0 and 1, as a prediction that is one class off would need
    right = BoundarySink(shifted, (1.0,), raw_labels=True)
    right.add(make_result("x", pred=pred, label=label))
    wrong = BoundarySink(shifted, (1.0,))
    wrong.add(make_result("x", pred=pred, label=pred))
    assert wrong.scores.f_score()[:2].tolist() == [1, 1]
    assert right.scores.f_score()[1] == 1  # raw id 1, train id 0, is compared with class 1


def test_raw_labels_need_ids_of_8_bit() -> None:
    wide = replace(SPEC, id_to_train_id={1000: 0, 1: 1, 2: 2, 3: 3}, train_id_to_id=(1000, 1, 2, 3))
    BoundarySink(wide)
    with pytest.raises(UserError, match="--eval_f1_labels raw needs class ids 0..254"):
        BoundarySink(wide, raw_labels=True)


def test_results_and_page_show_it_only_when_it_was_computed(tmp_path: Path) -> None:
    summary, scores = make_summary(RESULTS), filled().scores
    results = make_results(summary, SPEC, {}, [scores])
    assert results["metrics"]["boundary_f"] == scores.mean_f()
    assert [row["boundary_f"] for row in results["classes"]] == scores.f_score().tolist()
    arguments = {"title": "t", "spec": SPEC, "rows": [], "run": {}}
    write_page(tmp_path / "with.html", summary=results, **arguments)
    write_page(tmp_path / "without.html", summary=make_results(summary, SPEC, {}), **arguments)
    text = (tmp_path / "with.html").read_text()
    assert "Boundary F %" in text and f"{100 * scores.mean_f():.2f} %" in text
    assert "oundary F" not in (tmp_path / "without.html").read_text()


def test_results_hold_the_sums_of_every_tolerance_and_the_modified_score(tmp_path: Path) -> None:
    sink, modified = BoundarySink(SPEC, (1.0, 2.0)), filled(modified=True).scores
    for result in RESULTS:
        sink.add(result)
    results = make_results(make_summary(RESULTS), SPEC, {}, [sink.scores, modified])
    json.dumps(results, allow_nan=False)
    assert results["boundary"]["thresholds"] == [1.0, 2.0]
    assert np.allclose(results["boundary"]["sums"], sink.scores.sums)
    assert results["boundary"]["counted"] == [5.0] * 4 and results["boundary"]["images"] == 5
    assert results["metrics"]["modified_f"] == modified.mean_f()
    assert results["modified"]["thresholds"] == [3]
    write_page(tmp_path / "p.html", title="t", spec=SPEC, rows=[], run={}, summary=results)
    text = (tmp_path / "p.html").read_text()
    assert "Boundary F by tolerance" in text and "boundary F of any two classes" in text
    assert f"{100 * sink.scores.mean_f(1):.2f}" in text
