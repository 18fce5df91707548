# SPDX-License-Identifier: Apache-2.0
"""The table of known weights, `weights.yml`: what there is, where, under which licence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from runtime.errors import UserError, near

TABLE = Path(__file__).with_name("weights.yml")
ROWS = "weights"  # key of the rows of a group


@dataclass(frozen=True, kw_only=True)
class Known:
    """Weights that can be fetched by name; empty text where nothing certain is known.

    system: whose network. use: the flag that takes them. arch: the name for `--arch`, with further
    flags behind it. where: the name to fetch. data: what they were trained on. licence: of the
    weights. score: published, by `protocol`, as stated in `source`. sha256: of a single file.
    """

    system: str
    use: str
    arch: str
    where: str
    licence: str
    data: str
    score: str = ""
    protocol: str = ""
    source: str = ""
    sha256: str = ""

    def lines(self) -> list[str]:
        """Every entry that there is, and the command that uses the weights."""
        shown = [item.name for item in fields(self) if getattr(self, item.name)]
        if not self.score:
            shown = [name for name in shown if name not in ("protocol", "source")]
        command = "eval.py" if self.use == "snapshot" else "train.py"
        return [
            *(f"{name:10}{getattr(self, name)}" for name in shown),
            f"{'command':10}python {command} --arch {self.arch} --{self.use} {self.where} ...",
        ]


def read_table(path: Path = TABLE) -> list[Known]:
    """All rows of the table, in its order; UserError with file and row for one that is none."""
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [_known(group, row, path) for group in groups for row in group[ROWS]]


def _known(group: Mapping[str, Any], row: Mapping[str, Any], path: Path) -> Known:
    values = {key: value for key, value in {**group, **row}.items() if key != ROWS}
    names = {item.name for item in fields(Known)}
    wrong = sorted(values.keys() - names)
    wrong += [name for name, value in values.items() if not isinstance(value, str)]
    if wrong:
        raise UserError(f"{path}: {row.get('where')}: {wrong[0]} is no entry, or no text")
    return Known(**values)


def matching(text: str, table: Sequence[Known]) -> list[Known]:
    """The rows that have every word of `text` somewhere, in any case."""
    words = text.lower().split()
    return [
        row
        for row in table
        if all(word in " ".join((row.system, row.arch, row.where, row.data, row.use)).lower()
               for word in words)
    ]  # fmt: skip


def find(name: str, table: Sequence[Known]) -> Known:
    """The row that `name` stands for: all of `where`, its end, or a part that only one has.

    UserError with the rows that could be meant, or the nearest name.
    """
    ends = [
        row for row in table if row.where == name or row.where.endswith(("/" + name, ":" + name))
    ]
    found = ends or [row for row in table if name.lower() in row.where.lower()]
    if len(found) == 1:
        return found[0]
    if not found:
        hint = near(name, [row.where.rsplit("/", 1)[-1].rsplit(":", 1)[-1] for row in table])
        raise UserError(f"{name} is not in the table, see `python -m network.weights list`{hint}")
    names = ", ".join(row.where for row in found[:4]) + (", ..." if len(found) > 4 else "")
    raise UserError(f"{name} could be {len(found)} rows of the table: {names}")
