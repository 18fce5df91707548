# SPDX-License-Identifier: Apache-2.0
"""A metric made of counts: equal on any number of ranks; in the log, results.json and the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metrics.result import ImageResult
from reports.counted import CountedSink, Counts
from reports.page import write_page
from reports.results import make_results
from tests.reports.cases import SPEC, alone, make_result, make_summary

RESULTS = [make_result(str(number), number, wrong=0.1 * number) for number in range(5)]


def right_pixels(result: ImageResult) -> Counts:
    """(K, 2): pixels that are right, and labelled."""
    assert result.confusion is not None
    return np.stack([np.diag(result.confusion), result.confusion.sum(1)], axis=1)


def shares(counts: Counts) -> np.ndarray:
    right, labelled = counts.T
    return np.divide(right, labelled, out=np.full(len(counts), np.nan), where=labelled > 0)


def filled(results: list[ImageResult]) -> CountedSink:
    sink = CountedSink("right_share", right_pixels, shares)
    for result in results:
        sink.add(result)
    return sink


def test_an_image_without_label_does_not_count() -> None:
    sink = filled([*RESULTS, make_result("x", label=None, confusion=None)])
    sink.close(0, 1, alone)
    assert sink.scores.counts is not None
    assert np.array_equal(sink.scores.counts, sum(map(right_pixels, RESULTS)))


def test_ranks_have_the_scores_of_one_also_where_one_has_no_image() -> None:
    parts = [filled(RESULTS[:2]), filled(RESULTS[2:]), filled([])]
    counts = [sink.scores.counts for sink in parts]
    whole = filled(RESULTS).scores
    for rank, sink in enumerate(parts):
        sink.close(rank, 3, lambda value: counts)
        found = sink.scores.of_classes()["right_share"]
        assert found == pytest.approx(whole.of_classes()["right_share"], nan_ok=True)


def test_nothing_counted_has_no_score() -> None:
    scores = filled([]).scores
    assert np.isnan(scores.values()["right_share"]) and scores.of_classes() == {}
    assert [line.split()[-1] for line in scores.table(SPEC.class_names).splitlines()] == ["%", "-"]


def test_results_page_and_table_show_it(tmp_path: Path) -> None:
    summary, scores = make_summary(RESULTS), filled(RESULTS).scores
    assert summary.scores is not None
    results = make_results(summary, SPEC, {}, [scores])
    recall = summary.scores.recall
    shown = [row["right_share"] for row in results["classes"]]
    assert shown == pytest.approx([*recall[:3].tolist(), None])
    assert results["metrics"]["right_share"] == pytest.approx(float(recall[:3].mean()))
    assert results["right_share"]["counts"] == sum(map(right_pixels, RESULTS)).tolist()
    lines = scores.table(SPEC.class_names).splitlines()
    assert [line.split()[0] for line in lines] == ["right_share", *SPEC.class_names, "mean"]
    write_page(tmp_path / "p.html", title="t", spec=SPEC, rows=[], run={}, summary=results)
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "right share %" in text and f"{100 * float(recall[:3].mean()):.2f} %" in text
