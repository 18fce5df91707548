# SPDX-License-Identifier: Apache-2.0
"""Boundary F of an evaluation: summed over images and ranks, shown with the other scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metrics.boundary import BoundaryScores, boundary_f
from reports.boundary import BoundarySink
from reports.page import write_page
from reports.results import make_results
from tests.reports.cases import SPEC, alone, make_result, make_summary

RESULTS = [make_result(str(i), i, wrong=0.1 * i) for i in range(5)]


def filled(threshold: float = 1.0) -> BoundarySink:
    sink = BoundarySink(SPEC.num_classes, threshold)
    for result in RESULTS:
        sink.add(result)
    return sink


def test_scores_are_the_mean_over_images() -> None:
    sink = filled()
    sink.close(0, 1, alone)
    each = [boundary_f(r.pred, r.label, SPEC.num_classes, 1.0)[0] for r in RESULTS]
    assert np.allclose(sink.scores.f_score(), np.mean(each, 0))


def test_two_ranks_have_the_scores_of_one() -> None:
    parts = [BoundarySink(SPEC.num_classes, 1.0) for _ in range(2)]
    for number, result in enumerate(RESULTS):
        parts[number % 2].add(result)
    values = [(sink.scores.num_images, sink.scores.sums) for sink in parts]
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
    assert "nan" not in BoundaryScores(4).table(SPEC.class_names)


def test_results_and_page_show_it_only_when_it_was_computed(tmp_path: Path) -> None:
    summary, scores = make_summary(RESULTS), filled().scores
    results = make_results(summary, SPEC, {}, scores)
    assert results["metrics"]["boundary_f"] == scores.mean_f()
    assert [row["boundary_f"] for row in results["classes"]] == scores.f_score().tolist()
    arguments = {"title": "t", "spec": SPEC, "rows": [], "run": {}}
    write_page(tmp_path / "with.html", summary=results, **arguments)
    write_page(tmp_path / "without.html", summary=make_results(summary, SPEC, {}), **arguments)
    text = (tmp_path / "with.html").read_text()
    assert "Boundary F %" in text and f"{100 * scores.mean_f():.2f} %" in text
    assert "oundary F" not in (tmp_path / "without.html").read_text()
