# SPDX-License-Identifier: Apache-2.0
"""The Cityscapes class table and the cities of every cross-validation fold."""

from __future__ import annotations

from collections.abc import Callable

from datasets import cityscapes
from tests.parity.core import Fixture, Row, compare, failure

VOID = 255


def check_labels(fixture: Fixture) -> list[Row]:
    """Ids, train ids, names and colours; the row with id -1 can not occur in a file."""
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
    names = tuple(row["name"] for row in classes)
    same_names = spec.class_names == names
    return [
        compare("id_to_train_id", lut, wanted_lut),
        compare("train_id_to_id", spec.train_id_to_id, [row["id"] for row in classes]),
        compare("palette", spec.palette, [row["color"] for row in classes]),
        Row("names", 0.0, 0.0, True) if same_names else failure("names", str(spec.class_names)),
    ]


def check_cv_split(fixture: Fixture) -> list[Row]:
    """The cities of train and val in every fold, in order."""
    cities, rows = fixture.header["cities"], []
    for name, wanted in fixture.header["splits"].items():
        fold, split = int(name[2]), name.split("_")[1]
        found = cityscapes.city_split(cities["train"], cities["val"], split, fold)
        got = ["/".join(city) for city in found]
        rows.append(Row(name, 0.0, 0.0, True) if got == wanted else failure(name, f"{got}"))
    return rows


CHECKS: dict[str, Callable[[Fixture], list[Row]]] = {
    "data_cityscapes_labels": check_labels,
    "data_cv_split": check_cv_split,
}
