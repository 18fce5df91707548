# SPDX-License-Identifier: Apache-2.0
"""The worst images of each class: which ones, their files, their page, on one rank and on many."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest

from metrics.result import ImageResult
from reports.worst import PAGE, WorstSink, class_words
from tests.reports.cases import SPEC, alone, make_result, read
from tests.reports.chrome import Chrome

KINDS = {"input", "gt", "prediction", "err_mask", "prob_mask"}


def pictures(folder: Path) -> set[str]:
    """Relative names of everything below `folder` that is no page and not hidden."""
    found = {path.relative_to(folder) for path in folder.rglob("*.png")}
    assert not any(part.startswith(".") for path in found for part in path.parts)
    return {str(path) for path in found}


def wrong_pixels(result: ImageResult, number: int) -> int:
    """False positives and false negatives of a class, counted on the maps themselves."""
    counts = result.label < SPEC.num_classes
    return int((((result.pred == number) != (result.label == number)) & counts).sum())


def many(count: int) -> list[ImageResult]:
    return [make_result(f"city/{i}", i, wrong=0.05 * (i % 7)) for i in range(count)]


def expected(results: list[ImageResult], keep: int) -> list[tuple[str, str, int]]:
    """(class, image, pixels) by sorting everything."""
    rows = []
    for number, name in enumerate(SPEC.class_names):
        counts = [(wrong_pixels(result, number), result) for result in results]
        ranked = sorted(counts, key=lambda pair: (-pair[0], pair[1].index))
        rows += [(name, result.name, pixels) for pixels, result in ranked[:keep] if pixels]
    return rows


def found(sink: WorstSink) -> list[tuple[str, str, int]]:
    return [(item.class_name, item.name, item.pixels) for item in sink.failures]


def test_the_heaps_keep_what_sorting_everything_would(tmp_path: Path) -> None:
    results = many(25)
    sink = WorstSink(tmp_path, SPEC, 3)
    for result in results:
        sink.add(result)
    sink.close(0, 1, alone)
    assert found(sink) == expected(results, 3)
    names = {
        f"{name.rpartition('/')[0]}/{name.rpartition('/')[2]}_{label}_{kind}.png"
        for label, name, _ in found(sink)
        for kind in KINDS
    }
    assert pictures(tmp_path) == names


def test_the_stage_never_holds_more_than_the_heaps_do(tmp_path: Path) -> None:
    sink = WorstSink(tmp_path, SPEC, 1)
    for result in many(20):
        sink.add(result)
        staged = {path.stem.rpartition("_input")[0] for path in tmp_path.rglob("*_input.png")}
        assert len(staged) <= SPEC.num_classes


def run_ranks(sinks: list[WorstSink], work: Callable[[int], None]) -> None:
    """Every rank in a thread of its own, with a gathering that waits for all."""
    size = len(sinks)
    barrier, slots = Barrier(size), [None] * size

    def gatherer(rank: int) -> Callable[[Any], list[Any]]:
        def gather(value: Any) -> list[Any]:
            slots[rank] = value
            barrier.wait(30)
            values = list(slots)
            barrier.wait(30)
            return values

        return gather

    def body(rank: int) -> None:
        work(rank)
        sinks[rank].close(rank, size, gatherer(rank))

    threads = [Thread(target=body, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_three_ranks_find_what_one_finds(tmp_path: Path) -> None:
    results = many(20)
    sinks = [WorstSink(tmp_path, SPEC, 2, rank=rank) for rank in range(3)]
    run_ranks(sinks, lambda rank: [sinks[rank].add(result) for result in results[rank::3]])
    for sink in sinks:
        assert found(sink) == expected(results, 2)
    assert len(pictures(tmp_path)) == len(KINDS) * len(expected(results, 2))
    assert (tmp_path / PAGE).exists()


def test_pictures_show_the_image_they_are_named_after(tmp_path: Path) -> None:
    result = make_result("x")
    sink = WorstSink(tmp_path, SPEC, 1, assets=True)
    sink.add(result)
    sink.close(0, 1, alone)
    _, errors = read(tmp_path / "x_road_err_mask.png")
    assert np.array_equal(errors[:, :, 0] > 0, (result.pred != result.label) & (result.label < 4))
    mode, ids = read(tmp_path / "x_sky_prediction.png")
    assert mode == "P" and np.array_equal(ids, result.pred)
    assert (tmp_path / "x_road_attn_05x.png").exists()


def test_a_second_evaluation_leaves_no_picture_of_the_first(tmp_path: Path) -> None:
    for name in ("first", "second"):
        sink = WorstSink(tmp_path, SPEC, 1)
        sink.add(make_result(name))
        sink.close(0, 1, alone)
    assert all(file.startswith("second_") for file in pictures(tmp_path))


def test_the_page_has_a_heading_of_class_and_pixels_and_relative_links(tmp_path: Path) -> None:
    results = [make_result("a b/<x>", 3, wrong=0.6)]
    sink = WorstSink(tmp_path, SPEC, 2)
    sink.add(results[0])
    sink.close(0, 1, alone)
    text = (tmp_path / PAGE).read_text()
    for number in range(3):
        assert f"{SPEC.class_names[number]}-{wrong_pixels(results[0], number)}</h2>" in text
    assert "a b/&lt;x&gt;" in text and 'src="a%20b/%3Cx%3E_road_input.png"' in text
    links = set(re.findall(r'(?:src|href)="([^"#]+)"', text))
    assert links and not any(link.startswith(("/", "http")) for link in links)


def test_a_perfect_prediction_is_on_no_list(tmp_path: Path) -> None:
    sink = WorstSink(tmp_path, SPEC, 2)
    sink.add(make_result("x", wrong=0.0))
    sink.close(0, 1, alone)
    assert sink.failures == [] and pictures(tmp_path) == set()
    assert "No pixel was wrong" in (tmp_path / PAGE).read_text()


def test_class_names_become_parts_of_file_names() -> None:
    names = ("traffic light", "a/b", "a b", "Straße")
    assert class_words(names) == ["traffic_light", "a_b_1", "a_b_2", "Straße"]
    assert class_words(("Sky", "sky", "a/b", "a,b", "a_b_2")) == [
        "Sky_0", "sky_1", "a_b_2_", "a_b_3", "a_b_2",
    ]  # fmt: skip
    assert class_words(("..", ".", "")) == ["%2E%2E", "%2E", "%"]  # no folder above


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_and_loads_without_a_complaint(
    chrome: Chrome, tmp_path: Path, width: int
) -> None:
    spec = replace(SPEC, class_names=("road", "traffic light", "sky", "tram"))
    sink = WorstSink(tmp_path, spec, 3)
    for result in many(6):
        sink.add(result)
    sink.close(0, 1, alone)
    chrome.open(tmp_path / PAGE, width, height=6000)
    chrome.run("new Promise(done => setTimeout(done, 200))")
    assert chrome.problems == []
    broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).length"
    assert chrome.run(broken) == 0
    assert chrome.run("document.documentElement.scrollWidth") <= width
