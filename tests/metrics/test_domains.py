# SPDX-License-Identifier: Apache-2.0
"""Scores over sets of other classes: which numbers they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from datasets.common_classes import Meaning, read_table
from metrics.confusion import Scores
from metrics.domains import Domain, Matrix, groups_of, matrix_of

RNG = np.random.default_rng(0)


def terms(*texts: str) -> list[Meaning]:
    """`a b` as the common classes a and b; an empty text for none."""
    return [frozenset(text.split()) for text in texts]


def domain(meanings: Sequence[Meaning], counts: Sequence[Sequence[int]] | np.ndarray) -> Domain:
    names = tuple(f"class {number}" for number in range(len(meanings)))
    return Domain(name="set", class_names=names, meanings=meanings, counts=np.array(counts))


def states(matrix: Matrix) -> dict[tuple[int, ...], list[str]]:
    return {row.network: [cell.state for cell in row.cells] for row in matrix.rows}


def test_with_the_same_classes_every_number_is_that_of_an_evaluation() -> None:
    own = terms(*"abcde")
    counts = RNG.integers(0, 1000, (5, 5))
    counts[3] = counts[:, 3] = 0  # neither labelled nor predicted
    counts[4] = 0  # predicted alone: IoU 0, which counts
    matrix, scores = matrix_of(own, [domain(own, counts)]), Scores.of(counts, "abcde")
    np.testing.assert_array_equal([row.cells[0].iou for row in matrix.rows], scores.iou)
    column = matrix.columns[0]
    assert (column.mean_iu, column.acc, column.groups) == (scores.mean_iu, scores.acc, 4)
    assert column.common == scores.mean_iu and column.without == ()
    assert [row.cells[0].state for row in matrix.rows].count("absent") == 1


def test_several_classes_of_the_set_may_be_one_of_the_network() -> None:
    """A network that knows signs alone on a set with signs and lights: both are right."""
    network, own = terms("sky", "sign light"), terms("light", "sky", "sign")
    counts = [[1, 9], [80, 20], [3, 7]]  # 9 + 7 right of 20 labelled, 20 of the sky as well
    matrix = matrix_of(network, [domain(own, counts)])
    assert [row.cells[0].iou for row in matrix.rows] == [80 / 104, 16 / 40]
    assert matrix.rows[1].cells[0].own == (0, 2) and matrix.rows[1].cells[0].pixels == 20


def test_several_classes_of_the_network_may_be_one_of_the_set() -> None:
    network, own = terms("sign", "sky", "light"), terms("sky", "sign light")
    counts = [[0, 90, 10], [30, 5, 15]]
    matrix = matrix_of(network, [domain(own, counts)])
    assert states(matrix) == {(0, 2): ["scored"], (1,): ["scored"]}
    assert matrix.rows[0].cells[0].iou == 45 / (50 + 10)
    assert matrix.columns[0].acc == 135 / 150


def test_classes_that_overlap_across_are_one_group() -> None:
    """person | rider and bicycle against walking or riding people | bicycle."""
    network, own = terms("person", "rider bike", "car"), terms("person rider", "bike", "car")
    assert [sorted(group.network) for group in groups_of(network, own)] == [[0, 1], [2]]


def test_labels_that_the_network_lacks_do_not_count_and_its_own_extra_classes_are_wrong() -> None:
    network, own = terms("road", "curb", "sky"), terms("road", "", "sky", "tram")
    counts = [[60, 40, 0], [500, 0, 0], [0, 0, 100], [7, 0, 0]]
    matrix = matrix_of(network, [domain(own, counts)])
    assert states(matrix) == {(0,): ["scored"], (2,): ["scored"]}
    assert [row.cells[0].iou for row in matrix.rows] == [60 / 100, 1.0]
    assert matrix.columns[0].without == (1, 3) and matrix.columns[0].groups == 2


def test_a_set_that_tells_less_apart_has_the_sum_and_the_other_one_both() -> None:
    network = terms("sky", "sign", "light", "train")
    fine = domain(network, np.diag([90, 40, 10, 5]) + 1)
    coarse = domain(terms("sky", "sign light"), [[80, 0, 10, 0], [5, 30, 5, 0]])
    matrix = matrix_of(network, [fine, coarse])
    assert states(matrix) == {
        (0,): ["scored", "scored"],
        (1, 2): ["scored", "scored"],
        (1,): ["scored", "merged"],
        (2,): ["scored", "merged"],
        (3,): ["scored", "lacking"],
    }
    assert [row.is_part for row in matrix.rows] == [False, False, True, True, False]
    sky, both = matrix.rows[0].cells, matrix.rows[1].cells
    assert both[0].iou == 54 / (58 + 4) and both[1].iou == 35 / (40 + 10)
    assert matrix.common == 2  # the sky, and signs with lights; the train is on one set alone
    assert matrix.columns[1].common == (sky[1].iou + both[1].iou) / 2 == matrix.columns[1].mean_iu
    assert matrix.columns[0].common == (sky[0].iou + both[0].iou) / 2
    assert matrix.columns[0].groups == 4 and matrix.columns[1].groups == 2


def test_rows_whose_sides_cover_different_things_are_marked() -> None:
    network = terms("car", "sky")
    cells = matrix_of(network, [domain(terms("car truck", "sky"), [[5, 1], [2, 9]])]).rows
    assert [row.cells[0].exact for row in cells] == [False, True]


def test_sets_without_anything_in_common_have_no_scores() -> None:
    matrix = matrix_of(terms("a"), [domain(terms("b"), [[3]])])
    assert matrix.rows == () and math.isnan(matrix.columns[0].mean_iu)
    assert math.isnan(matrix.columns[0].acc) and matrix.columns[0].without == (0,)


@pytest.mark.parametrize(("network", "own"), [("camvid", "kitti"), ("kitti", "camvid")])
def test_camvid_and_the_sets_like_cityscapes_share_eleven_exact_rows(
    network: str, own: str
) -> None:
    table = read_table()
    sides = [list(table.rows[name].values()) for name in (network, own)]
    counts = RNG.integers(1, 9, (len(sides[1]), len(sides[0])))
    matrix = matrix_of(sides[0], [domain(sides[1], counts)])
    assert len(matrix.rows) == matrix.columns[0].groups == 11
    assert all(row.cells[0].exact for row in matrix.rows)
