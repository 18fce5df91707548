# SPDX-License-Identifier: Apache-2.0
"""One network on several data sets: the matrix of class by set as text, JSON and a page.

domains.json: {"format": "hiseg-domains-1",
 "network": {"dataset", "classes": [{"name", "covers": [common classes]}, ...]},
 "sets": {NAME: {"split", "images", "seconds", "mean_iu", "rows": of how many rows, "acc",
                 "mean_iu_common", "not_compared": [labelled classes that the network lacks]}
               or {"split", "problem"}},
 "common_rows": of how many rows the means in "mean_iu_common" are,
 "rows": [{"classes": [of the network], "covers": [...], "part": of the row above that is none,
           "sets": {NAME: {"iou", "state", "pixels", "classes": [of the set], "exact"}}}],
 "protocol": {...}}                                      scores 0..1, null where there is none
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.spec import DatasetSpec, normal
from metrics.domains import Cell, Domain, Matrix, Meanings, Row, matrix_of
from reports.render import write_html
from reports.results import plain
from reports.run_facts import aligned
from runtime.files import write_atomic

FORMAT = "hiseg-domains-1"
JSON, PAGE = "domains.json", "domains.html"
MARKS = {"lacking": "–", "merged": "·", "absent": "absent"}  # of cells without a score
ROUGH = "≈"
LEGEND = {
    MARKS["lacking"]: "the set has no such class",
    MARKS["merged"]: "the set has it only together with others",
    MARKS["absent"]: "neither labels nor predictions hold it",
    ROUGH: "the set and the network draw the line elsewhere",
}
HEAT = 40  # % of the accent colour behind a perfect score


@dataclass(frozen=True, kw_only=True)
class Network:
    """The classes of a network, and what they mean."""

    spec: DatasetSpec
    meanings: Meanings

    def covers(self, row: Row) -> list[str]:
        """The common classes of a row, by the alphabet."""
        return sorted(frozenset[str]().union(*(self.meanings[number] for number in row.network)))

    def title(self, row: Row) -> str:
        """Its classes, as the network calls them."""
        return " + ".join(self.spec.class_names[number] for number in row.network)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What became of one set: its counts, or the problem that left it out.

    is_home: the network was trained on it.
    """

    name: str
    split: str
    is_home: bool = False
    problem: str = ""
    domain: Domain | None = None
    images: int = 0
    seconds: float = 0.0


def write_domains(
    directory: Path,
    network: Network,
    measured: Sequence[Measured],
    protocol: Mapping[str, Any],
) -> str:
    """Write domains.json and domains.html; returns the table and the name of the page."""
    sets = [each for each in measured if each.domain is not None]
    matrix = matrix_of(network.meanings, [each.domain for each in sets if each.domain])
    content = domains_content(network, measured, matrix, protocol)
    text = json.dumps(content, indent=1, allow_nan=False)
    write_atomic(directory / JSON, f"{text}\n".encode())
    write_domains_page(directory / PAGE, network, measured, matrix, protocol)
    return f"{domains_table(network, sets, matrix)}\npage: {directory / PAGE}"


def domains_content(
    network: Network,
    measured: Sequence[Measured],
    matrix: Matrix,
    protocol: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of domains.json in plain types."""
    own = [each for each in measured if each.domain is not None]
    sets: dict[str, Any] = {
        each.name: {"split": each.split, "problem": each.problem} for each in measured
    }
    for each, column in zip(own, matrix.columns, strict=True):
        sets[each.name] = {
            "split": each.split,
            "images": each.images,
            "seconds": each.seconds,
            "mean_iu": plain(column.mean_iu),
            "rows": column.groups,
            "acc": plain(column.acc),
            "mean_iu_common": plain(column.common),
            "not_compared": _names(each, column.without),
        }
    pairs = zip(network.spec.class_names, network.meanings, strict=True)
    return {
        "format": FORMAT,
        "network": {
            "dataset": network.spec.name,
            "classes": [{"name": name, "covers": sorted(covers)} for name, covers in pairs],
        },
        "sets": sets,
        "common_rows": matrix.common,
        "rows": [
            {
                "classes": [network.spec.class_names[number] for number in row.network],
                "covers": network.covers(row),
                "part": row.is_part,
                "sets": {
                    each.name: {
                        "iou": plain(cell.iou),
                        "state": cell.state,
                        "pixels": cell.pixels,
                        "classes": _names(each, cell.own),
                        "exact": cell.exact,
                    }
                    for each, cell in zip(own, row.cells, strict=True)
                },
            }
            for row in matrix.rows
        ],
        "protocol": {key: plain(value) for key, value in protocol.items() if key != "dataset"},
    }


def _names(of: Measured, numbers: Sequence[int]) -> list[str]:
    """Classes of a set by their numbers."""
    assert of.domain is not None
    return [of.domain.class_names[number] for number in numbers]


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.2f}"


def _text(cell: Cell) -> str:
    """The score in %, or the mark for why there is none."""
    if cell.state != "scored":
        return MARKS[cell.state]
    return _percent(cell.iou) + ("" if cell.exact else f" {ROUGH}")


def legend(matrix: Matrix) -> list[str]:
    """What the marks of its cells mean, those that it has."""
    cells = [cell for row in matrix.rows for cell in row.cells]
    used = {MARKS.get(cell.state, "") for cell in cells}
    if any(cell.state == "scored" and not cell.exact for cell in cells):
        used.add(ROUGH)
    return [f"{mark}: {text}" for mark, text in LEGEND.items() if mark in used]


def summary_rows(sets: Sequence[Measured], matrix: Matrix) -> list[list[str]]:
    """What is said of whole sets: a title and a text for each set."""
    columns = matrix.columns
    rows = [
        ["mean IoU", *(f"{_percent(each.mean_iu)} ({each.groups})" for each in columns)],
        ["pixel accuracy", *(_percent(each.acc) for each in columns)],
    ]
    if any(each.groups != matrix.common for each in columns):
        shared = [_percent(each.common) for each in columns]
        rows.append([f"mean IoU of the {matrix.common} common", *shared])
    homes = [column.common for each, column in zip(sets, columns, strict=True) if each.is_home]
    if homes and len(columns) > 1:
        rows.append(["  lost or gained", *(_difference(c.common - homes[0]) for c in columns)])
    return rows


def _difference(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:+.2f}"


def domains_table(network: Network, sets: Sequence[Measured], matrix: Matrix) -> str:
    """The matrix as aligned text: IoU in %, a row for each class, parts indented."""
    names = [each.name for each in sets]
    rows = [["IoU %", *names]]
    rows += [
        ["  " * row.is_part + network.title(row), *map(_text, row.cells)] for row in matrix.rows
    ]
    rows += summary_rows(sets, matrix)
    return "\n".join([aligned(rows, numbers=True), *legend(matrix)])


def write_domains_page(
    path: Path,
    network: Network,
    measured: Sequence[Measured],
    matrix: Matrix,
    protocol: Mapping[str, Any],
) -> None:
    """Write the page, which needs no other file."""
    sets = [each for each in measured if each.domain is not None]
    summary = summary_rows(sets, matrix)
    facts = {key: value for key, value in protocol.items() if key != "dataset"}
    write_html(
        path,
        "domains.html.j2",
        title=f"{protocol['arch']} on {len(sets)} data sets",
        subtitle=f"a network of {network.spec.num_classes} classes, trained on {network.spec.name}",
        figures=[
            {
                "label": f"mean IoU, {each.name} {each.split}",
                "value": f"{_percent(column.mean_iu)} %",
                "lead": each.is_home,
            }
            for each, column in zip(sets, matrix.columns, strict=True)
        ],
        notes=[f"{each.name}: {each.problem}" for each in measured if each.problem],
        names=[each.name for each in sets],
        rows=[_page_row(row, network, sets) for row in matrix.rows],
        summary=[{"title": title, "texts": texts} for title, *texts in summary],
        has_parts=any(row.is_part for row in matrix.rows),
        is_partial=any(column.groups != matrix.common for column in matrix.columns),
        legend=legend(matrix),
        sets=[
            {
                "name": each.name,
                "split": each.split,
                "images": each.images,
                "seconds": f"{each.seconds:.1f}",
                "without": ", ".join(_names(each, column.without)) or "none",
            }
            for each, column in zip(sets, matrix.columns, strict=True)
        ],
        facts=[(key, _shown(value)) for key, value in facts.items()],
    )


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def _page_row(row: Row, network: Network, sets: Sequence[Measured]) -> dict[str, Any]:
    title, covers = network.title(row), network.covers(row)
    says_it = normal("".join(covers)) == normal("".join(sorted(title.split(" + "))))
    return {
        "name": title,
        "covers": "" if says_it else ", ".join(covers),
        "part": row.is_part,
        "cells": [
            {
                "text": _text(cell),
                "value": "" if math.isnan(cell.iou) else repr(cell.iou),
                "heat": 0 if math.isnan(cell.iou) else round(HEAT * cell.iou),
                "classes": " + ".join(_names(each, cell.own)) or "none",
                "help": _help(cell),
            }
            for each, cell in zip(sets, row.cells, strict=True)
        ],
    }


def _help(cell: Cell) -> str:
    """What a cell means, in words."""
    if cell.state != "scored":
        return LEGEND[MARKS[cell.state]]
    return f"{cell.pixels:,} labelled pixels" + ("" if cell.exact else f"; {LEGEND[ROUGH]}")
