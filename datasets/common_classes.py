# SPDX-License-Identifier: Apache-2.0
"""What the classes of data sets mean in common terms: `common_classes.yml`, and files like it.

table = read_table(Path("mine.yml"))          # the rows of this project, and those of the file
meanings = table.meanings("camvid", names)    # one set of common classes for each name
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datasets.base import DataError
from datasets.spec import normal
from runtime.errors import near

BUILT_IN = Path(__file__).resolve().with_name("common_classes.yml")
COMMON = "common"

Meaning = frozenset[str]  # the common classes that a class covers; empty: it has no counterpart


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """Common classes, and for each data set by its name the meaning of each class by its name.

    sources: the file that each row stands in.
    """

    common: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Meaning]]
    sources: Mapping[str, Path]

    def meanings(
        self, dataset: str, names: Sequence[str], *, custom: bool = False
    ) -> tuple[Meaning, ...]:
        """The meanings of the classes `names`, in their order.

        In a set without a row, those classes have one whose names are common ones, whatever their
        case and punctuation. custom: the set is the user's own, the rows of this project are about
        others of the same name. DataError if its row lacks one of `names` or knows another one.
        """
        row = self.rows.get(dataset)
        if row is None or (custom and self.sources[dataset] == BUILT_IN):
            known = {normal(name): frozenset({name}) for name in self.common}
            return tuple(known.get(normal(name), frozenset()) for name in names)
        by_name = {normal(name): meaning for name, meaning in row.items()}
        own = {normal(name) for name in names}
        where = f"{self.sources[dataset]}: {dataset}:"
        for name in row:
            if normal(name) not in own:
                raise DataError(f"{where} has no class {name}{near(name, names)}")
        for name in names:
            if normal(name) not in by_name:
                raise DataError(
                    f"{where} says nothing of class {name}; name the common classes that it "
                    "covers, or [] for none"
                )
        return tuple(by_name[normal(name)] for name in names)


def read_table(path: Path | None = None) -> ClassTable:
    """The table of this project, with the rows and common classes that `path` adds or replaces.

    Raises DataError, one line with the file and the entry, for anything else than such a file.
    """
    tables = [_read(BUILT_IN, ())]
    if path is not None:
        tables.append(_read(path, tables[0].common))
    return ClassTable(
        common=tables[-1].common,
        rows={name: row for table in tables for name, row in table.rows.items()},
        sources={name: file for table in tables for name, file in table.sources.items()},
    )


def _read(path: Path, known: tuple[str, ...]) -> ClassTable:
    """The rows of one file; `known`: the common classes that it need not name."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(tree, dict):
        raise DataError(f"{path}: a mapping from data sets to their classes wanted")
    own = tree.pop(COMMON, [])
    if not isinstance(own, list) or not all(isinstance(name, str) for name in own):
        raise DataError(f"{path}: {COMMON}: a list of names wanted, got {own!r}")
    common = tuple(dict.fromkeys((*known, *own)))
    rows = {str(name): _row(path, str(name), row, common) for name, row in tree.items()}
    return ClassTable(common=common, rows=rows, sources=dict.fromkeys(rows, path))


def _row(path: Path, dataset: str, row: Any, common: Sequence[str]) -> dict[str, Meaning]:
    """What the classes of one set mean."""
    if not isinstance(row, dict) or not row:
        raise DataError(f"{path}: {dataset}: a mapping from classes to common classes wanted")
    found: dict[str, Meaning] = {}
    for name, value in row.items():
        terms = [value] if isinstance(value, str) else value
        if not isinstance(terms, list):
            raise DataError(
                f"{path}: {dataset}: {name}: a common class, a list of them or [] wanted, "
                f"got {value!r}"
            )
        for term in terms:
            if term not in common:
                raise DataError(
                    f"{path}: {dataset}: {name}: {term} is no common class"
                    f"{near(str(term), common)}; new ones stand under {COMMON}:"
                )
        found[str(name)] = frozenset(terms)
    return found
