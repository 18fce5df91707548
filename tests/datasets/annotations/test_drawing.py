# SPDX-License-Identifier: Apache-2.0
"""Polygons and run lengths to pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.annotations.contract import (
    Fault,
    Mask,
    Picture,
    Ring,
    Shape,
    ellipse,
    rectangle,
    ring,
    turned,
)
from datasets.annotations.drawing import drawn, outside, region
from datasets.annotations.drawing import filled as filled_in
from datasets.annotations.rle import decoded, from_text


def filled(corners: Ring, height: int, width: int) -> Mask:
    return filled_in(corners, slice(0, height), slice(0, width))


DIAMOND = ring([[4, 0], [8, 4], [4, 8], [0, 4]])


def test_a_pixel_belongs_to_a_polygon_if_its_centre_does() -> None:
    assert np.argwhere(filled(rectangle(2, 1, 5, 3), 6, 8)).tolist() == [
        [1, 2], [1, 3], [1, 4], [2, 2], [2, 3], [2, 4],
    ]  # fmt: skip
    assert not filled(rectangle(2.6, 1, 3.4, 5), 6, 8).any(), "no centre lies in so thin a strip"
    rows = filled(DIAMOND, 8, 8).sum(1).tolist()
    assert rows == rows[::-1] and sum(rows) == 32


def test_neighbours_share_no_pixel_and_leave_no_gap() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        middle = rng.uniform(0, 30, 2)
        corners = np.array([[0, 0], [30, 0], [30, 30], [0, 30]], float)
        fans = [filled(ring([middle, corners[n], corners[(n + 1) % 4]]), 30, 30) for n in range(4)]
        assert (sum(fan.astype(int) for fan in fans) == 1).all()
    for third in range(1, 31):  # centres lie exactly on the common edge
        edge = np.array([[0, 0.5], [30, 0.5 + third]])
        above = filled(ring([*edge, [30, 0], [0, 0]]), 32, 30)
        below = filled(ring([*edge[::-1], [0, 32], [30, 32]]), 32, 30)
        assert (above ^ below).all(), third


def test_a_window_changes_no_pixel() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        corners = ring(rng.uniform(-10, 50, (5, 2)))
        shape = Shape(label="a", where="", rings=[corners])
        picture = Picture(file="x", source=Path("x"), shapes=[shape])
        label = drawn(picture, {"a": 1}, 0, (30, 40))
        assert ((label == 1) == filled(corners, 30, 40)).all()


def test_what_lies_outside_is_cut_off() -> None:
    assert filled(rectangle(-5, -5, 100, 100), 4, 6).all()
    assert filled(rectangle(3, -9, 90, 2), 4, 6).sum() == 2 * 3
    assert not filled(rectangle(-9, 0, -1, 4), 4, 6).any()


def test_a_polygon_that_crosses_itself_is_even_odd_and_parts_are_a_union() -> None:
    twice = ring([[0, 0], [6, 0], [6, 6], [0, 6], [0, 0], [2, 2], [2, 4], [4, 4], [4, 2], [2, 2]])
    assert filled(twice, 6, 6).sum() == 36 - 4
    parts = Shape(label="a", where="", rings=[rectangle(0, 0, 4, 4), rectangle(2, 2, 6, 6)])
    assert region(parts, slice(0, 6), slice(0, 6)).sum() == 16 + 16 - 4
    assert region(parts, slice(1, 5), slice(3, 6)).sum() == 3 + 3 * 3 - 2


def test_ellipses_and_turned_boxes_have_their_area() -> None:
    assert filled(ellipse(50, 40, 30, 20), 80, 100).sum() == pytest.approx(np.pi * 600, rel=0.01)
    upright = turned(rectangle(10, 20, 50, 30), 90)
    assert filled(upright, 60, 60).sum() == 400
    rows = np.flatnonzero(filled(upright, 60, 60).any(1))
    assert (rows[0], rows[-1]) == (5, 44)


def test_later_shapes_cover_and_a_mask_is_put_at_its_corner() -> None:
    shapes = [
        Shape(label="b", where="", rings=[rectangle(0, 0, 4, 4)], order=(2,)),
        Shape(label="a", where="", rings=[rectangle(0, 0, 6, 2)], order=(1,)),
        Shape(label="c", where="", mask=np.array([[True, False], [True, True]]), corner=(-1, 3)),
    ]
    shapes[2].order = (3,)
    picture = Picture(file="x", source=Path("x"), shapes=shapes)
    label = drawn(picture, {"a": 0, "b": 1, "c": 2}, 255, (5, 6))
    assert label.tolist() == [
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 255, 255],
        [1, 1, 1, 1, 255, 255],
        [2, 255, 255, 255, 255, 255],
    ]


@pytest.mark.parametrize(
    ("corner", "said"),
    [([7.0, 3], ""), ([-1.0, 3], ""), ([7.01, 3], "(7.01, 3)"), ([3, -1.5], "(3, -1.5)")],
)
def test_a_corner_may_lie_a_pixel_outside_and_no_more(corner: list[float], said: str) -> None:
    shape = Shape(label="a", where="", rings=[ring([[0, 0], corner, [2, 2]])])
    assert outside(shape, 4, 6) == said


def test_run_lengths_are_those_of_coco() -> None:
    """The text was written by pycocotools."""
    wanted = np.zeros((7, 9), bool)
    wanted[1:4, 2:6] = wanted[5, 8] = wanted[0, 0] = True
    counts = from_text("01>2F00000b0N[O")
    assert (decoded(counts, 7, 9, by_column=True) == wanted).all()
    flat = np.flatnonzero(np.diff(np.r_[0, wanted.ravel(), 0]))
    runs = np.diff(np.r_[0, flat, wanted.size]).tolist()
    assert (decoded(runs, 7, 9, by_column=False) == wanted).all()


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: decoded([1, 2], 2, 2, by_column=True), "add up to 3, 2x2 are wanted"),
        (lambda: decoded([-1, 5], 2, 2, by_column=True), "at least 0"),
        (lambda: decoded(["4"], 2, 2, by_column=True), "whole numbers"),
        (lambda: from_text("01\x01"), "run lengths hold"),
        (lambda: from_text("0o"), "end inside a number"),
        (lambda: ring([[0, 0], [1, 1]]), "2 corners"),
        (lambda: ring([[0, 0], [1, 1], ["a", 2]]), "pairs of numbers"),
        (lambda: ring([[0, 0], [1, 1], [float("nan"), 2]]), "not finite"),
        (lambda: ring(None), "pairs of numbers"),
        (lambda: ring([[0, 0], [1, 1], [1e9, 2]]), "beyond any image"),
        (lambda: ellipse(0, 0, 1e300, 1), "beyond any image"),
    ],
)
def test_what_is_no_region_says_why(act: object, said: str) -> None:
    with pytest.raises(Fault, match=said):
        act()  # type: ignore[operator]
