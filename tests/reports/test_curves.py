# SPDX-License-Identifier: Apache-2.0
"""Curves: axes with round numbers, gaps where there is no number, ends that are kept."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reports.curves import (
    MAX_POINTS,
    SIZE,
    chart,
    lines_of,
    picture_of,
    svg_of,
    text_of,
    thinned,
    ticks,
)


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (-3.2, 4.1, [-2, 0, 2, 4]),
        (0.1, 0.1004, [0.1, 0.1001, 0.1002, 0.1003, 0.1004]),
        (0, 123456, [0, 50000, 100000]),
    ],
)
def test_ticks_are_round(low: float, high: float, wanted: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(wanted)


def test_long_curves_are_thinned_and_keep_their_end() -> None:
    points = [(float(x), float(x % 2)) for x in range(10_001)]
    found = thinned(points)
    assert len(found) <= MAX_POINTS and found[-1] == points[-1]
    assert all(y == pytest.approx(0.5, abs=0.03) for _, y in found[:-1])
    assert [x for x, _ in found] == sorted({x for x, _ in found})
    assert thinned(points[:MAX_POINTS]) == points[:MAX_POINTS]


def test_a_curve_has_a_gap_where_there_is_no_number() -> None:
    plot = chart("loss", "steps", {"a": {0: 1, 1: math.nan, 2: 3, 3: 2}, "b": {}})
    assert plot is not None and [curve.name for curve in plot.curves] == ["a"]
    (pieces,) = lines_of(plot)
    assert [len(piece) for piece in pieces] == [1, 2]
    assert svg_of(plot)["curves"][0]["dots"] == [pieces[0][0]]
    assert all(0 <= x <= SIZE[0] and 0 <= y <= SIZE[1] for piece in pieces for x, y in piece)


@pytest.mark.parametrize("points", [{5: 0.0}, {0: 7.0, 1: 7.0}, {0: math.inf}, {0: -1e30, 9: 1e30}])
def test_any_curve_can_be_drawn(points: dict[int, float]) -> None:
    plot = chart("x", "steps", {"a": points})
    assert plot is not None
    left, right, low, high = plot.bounds()
    assert left < right and low < high
    assert svg_of(plot)["along_y"]


def test_nothing_is_no_chart() -> None:
    assert chart("x", "steps", {"a": {}}) is None


def test_values_are_short() -> None:
    shown = [text_of(value) for value in (0.123456, 12345.6, 3.0, math.nan)]
    assert shown == ["0.1235", "12,346", "3", "none"]


def test_the_picture_holds_every_curve_in_its_colour() -> None:
    numbers = {"a": {0: 0.0, 9: 1.0}, "b": {0: 1.0, 9: 0.0}}
    plots = [chart(title, "steps", numbers) for title in ("one", "two", "three")]
    pixels = np.asarray(picture_of([plot for plot in plots if plot is not None]))
    for color in ((11, 122, 117), (217, 119, 6)):
        assert (pixels == color).all(-1).sum() > 3 * 1000
    assert pixels.shape[0] > pixels.shape[1] / 2
