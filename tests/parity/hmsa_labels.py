# SPDX-License-Identifier: Apache-2.0
"""The Cityscapes class table and the cities of every cross-validation fold."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from datasets import cityscapes
from tests.parity.core import Check, Row, compare, same
from tests.parity.fixture import Fixture

VOID = 255
# Of the public table of 35 rows, {column: value} with sorted keys: also the names, colours and
# categories of the ids that are no class, which this project has no use for.
TABLE_SHA256 = "23c235e40b5f9599880aeb2e2f8bc800e72092ced89b0336c83f54603ebcae8a"


def digest(rows: list[dict[str, Any]]) -> str:
    """sha256 of a label table."""
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def check_labels(fixture: Fixture) -> list[Row]:
    """Ids, train ids, names and colours; the row with id -1 cannot occur in a file."""
    spec, columns = cityscapes.SPEC, fixture.header["columns"]
    rows = [dict(zip(columns, row, strict=True)) for row in fixture.header["rows"]]
    known = [row for row in rows if row["id"] >= 0]
    classes = sorted(
        (row for row in known if row["trainId"] < VOID), key=lambda row: row["trainId"]
    )
    lut = spec.lut()
    wanted_lut = [-1] * 256
    for row in known:
        wanted_lut[row["id"]] = row["trainId"]
    return [
        compare("id_to_train_id", lut, wanted_lut),
        compare("train_id_to_id", spec.train_id_to_id, [row["id"] for row in classes]),
        compare("palette", spec.palette, [row["color"] for row in classes]),
        same("names", list(spec.class_names), [row["name"] for row in classes]),
        same("whole table", digest(rows), TABLE_SHA256),
    ]


def check_cv_split(fixture: Fixture) -> list[Row]:
    """The cities of train and val in every fold, in order."""
    cities, rows = fixture.header["cities"], []
    for name, wanted in fixture.header["splits"].items():
        fold, split = name.removeprefix("cv").split("_")
        found = cityscapes.city_split(cities["train"], cities["val"], split, int(fold))
        rows.append(same(name, ["/".join(city) for city in found], wanted))
    return rows


CHECKS = (
    Check(
        "cityscapes label table",
        lambda fixture: "columns" in fixture.header and "rows" in fixture.header,
        check_labels,
    ),
    Check(
        "cityscapes folds",
        lambda fixture: "splits" in fixture.header and "cities" in fixture.header,
        check_cv_split,
    ),
)
