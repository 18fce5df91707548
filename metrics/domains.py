# SPDX-License-Identifier: Apache-2.0
"""Scores of one network on data sets of other classes, from counts of its own class pairs.

C[g, p] counts pixels that a set labels as its class g and that the network calls its class p. Every
class has a meaning, the set of common classes that it covers. Classes of either side whose meanings
overlap, directly or by way of others, are one group: nothing finer can be compared. With g in a
group and p in the same one a pixel is right.

* Labels of classes in no group do not count, as void does not: the network cannot know them.
* Predictions of classes in no group are wrong wherever a label counts.
* A set's mean is that of its groups, with the rules of `metrics.confusion`. If both sides have the
  same classes, every number is that of an ordinary evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from metrics.mean import known_mean

Counts = npt.NDArray[np.int64]
Meanings = Sequence[frozenset[str]]

T = TypeVar("T")

# scored; the set has no such class; it has it only together with classes outside of the row;
# neither labels nor predictions hold it
State = Literal["scored", "lacking", "merged", "absent"]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Classes of a network and of a set, by their numbers, that can only be compared together."""

    network: frozenset[int]
    own: frozenset[int]


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A data set that a network was evaluated on.

    counts: (classes of the set, classes of the network), as above. meanings: of its own classes.
    """

    name: str
    class_names: tuple[str, ...]
    meanings: Meanings
    counts: Counts


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The score of a row on a set: IoU 0..1, NaN unless it is `scored`; pixels: of its labels.

    own: numbers of the classes of the set that it is about. exact: these cover the same common
    classes as those of the row.
    """

    state: State
    iou: float = math.nan
    pixels: int = 0
    own: tuple[int, ...] = ()
    exact: bool = True


@dataclass(frozen=True, kw_only=True)
class Row:
    """Classes of the network, by their numbers, and their score on each set.

    is_part: a finer row that stands below the one that contains it.
    """

    network: tuple[int, ...]
    is_part: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A set as a whole: mean IoU and pixel accuracy of its groups, and how many have an IoU.

    common: the mean of the rows that have an IoU on every set. without: its labelled classes that
    have no counterpart in the network.
    """

    mean_iu: float
    acc: float
    groups: int
    common: float
    without: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Rows by sets; common: how many rows the means over all sets are of."""

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    common: int


def united(parts: Iterable[frozenset[T]]) -> list[frozenset[T]]:
    """Unions of `parts`, as small as they can be without overlapping; empty ones are left out."""
    found: list[frozenset[T]] = []
    for part in filter(None, parts):
        touched = [each for each in found if each & part]
        found = [each for each in found if not each & part]
        found.append(part.union(*touched))
    return found


def groups_of(network: Meanings, own: Meanings) -> list[Group]:
    """The groups that have classes of both sides, in the order of the network's classes."""
    found = []
    for terms in united([*network, *own]):
        sides = [
            frozenset(number for number, meaning in enumerate(side) if meaning & terms)
            for side in (network, own)
        ]
        if all(sides):
            found.append(Group(network=sides[0], own=sides[1]))
    return sorted(found, key=lambda group: min(group.network))


def matrix_of(network: Meanings, domains: Sequence[Domain]) -> Matrix:
    """The scores of a network, whose classes mean `network`, on sets.

    Rows are the groups of all sets; where these differ, first what contains them, then the parts.
    """
    groups = [groups_of(network, domain.meanings) for domain in domains]
    numbers = {group.network for own in groups for group in own}
    rows = []
    for whole in sorted(united(numbers), key=min):
        parts = sorted((each for each in numbers if each < whole), key=sorted)
        for classes in (whole, *parts):
            cells = [_cell(network, classes, *pair) for pair in zip(domains, groups, strict=True)]
            rows.append(
                Row(network=tuple(sorted(classes)), is_part=classes != whole, cells=tuple(cells))
            )
    wholes = np.array([[cell.iou for cell in row.cells] for row in rows if not row.is_part])
    wholes = wholes.reshape(-1, len(domains))
    shared = wholes[~np.isnan(wholes).any(1)]
    columns = [
        _column(network, domain, own, known_mean(shared[:, number]))
        for number, (domain, own) in enumerate(zip(domains, groups, strict=True))
    ]
    return Matrix(rows=tuple(rows), columns=tuple(columns), common=len(shared))


def _covered(meanings: Meanings, numbers: Iterable[int]) -> frozenset[str]:
    return frozenset[str]().union(*(meanings[number] for number in numbers))


def _cell(
    network: Meanings, classes: frozenset[int], domain: Domain, groups: Sequence[Group]
) -> Cell:
    """The score of the network's `classes` on a set that has `groups` with it."""
    touched = [group for group in groups if group.network & classes]
    if not touched:
        return Cell(state="lacking")
    own = tuple(sorted(number for group in touched for number in group.own))
    exact = _covered(network, classes) == _covered(domain.meanings, own)
    if not all(group.network <= classes for group in touched):
        return Cell(state="merged", own=own, exact=exact)
    counted = sorted(number for group in groups for number in group.own)
    predicted = domain.counts[:, sorted(classes)]
    right = int(predicted[list(own)].sum())
    labelled = int(domain.counts[list(own)].sum())
    whole = labelled + int(predicted[counted].sum()) - right
    return Cell(
        state="scored" if whole else "absent",
        iou=right / whole if whole else math.nan,
        pixels=labelled,
        own=own,
        exact=exact,
    )


def _column(network: Meanings, domain: Domain, groups: Sequence[Group], common: float) -> Column:
    """A set as a whole."""
    cells = [_cell(network, group.network, domain, groups) for group in groups]
    ious = np.array([cell.iou for cell in cells])
    counted = {number for group in groups for number in group.own}
    labels = domain.counts.sum(1)
    total = int(labels[sorted(counted)].sum())
    right = sum(
        int(domain.counts[np.ix_(sorted(group.own), sorted(group.network))].sum())
        for group in groups
    )
    return Column(
        mean_iu=known_mean(ious),
        acc=right / total if total else math.nan,
        groups=int((~np.isnan(ious)).sum()),
        common=common,
        without=tuple(
            number for number in np.flatnonzero(labels).tolist() if number not in counted
        ),
    )
