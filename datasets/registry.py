# SPDX-License-Identifier: Apache-2.0
"""From the name of a data set to its classes and its lists of images.

The rows are those of `datasets.table`; the module of a set is imported when the set is used.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from datasets import places, table
from datasets.base import DataError
from datasets.listing import Items, MissingFiles, named, notes_of
from datasets.skip import SkipList
from datasets.spec import DatasetSpec, Item
from datasets.table import PAIRS, Row
from runtime.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Folds:
    """Which part of a data set is which split.

    cv: the cross-validation fold, 0 for the published split; cv_splits: how many there are.
    is_joint: training images are those of train and val together.
    """

    cv: int = 0
    cv_splits: int = 3
    is_joint: bool = False


def row_of(name: str) -> Row:
    """The row of a set of images and label maps; UserError for any other."""
    row = table.TABLE.get(name)
    if row is None or row.kind != PAIRS:
        kinds = (PAIRS, table.BLACK)
        known = ", ".join(table.names(lambda each: each.kind in kinds and each.name != name))
        raise UserError(f"--dataset {name} is not supported here; one of {known} is")
    return row


def _module(row: Row) -> ModuleType:
    """The module of a set, imported now."""
    return importlib.import_module(row.path)


def _declared_spec(dataset: str) -> object:
    """What its module says of the classes: a `DatasetSpec`, or a function of the root."""
    row = table.TABLE[dataset] if is_black(dataset) else row_of(dataset)
    return getattr(_module(row), row.spec)


def is_black(dataset: str) -> bool:
    """Whether its images are made in memory and have no labels."""
    return table.TABLE[dataset].kind == table.BLACK


def label_root(dataset: str, root: Path) -> Path:
    """The folder that the label files of a data set lie below."""
    row = row_of(dataset)
    found: Path = _module(row).root_of(root) if row.described else root
    return found


def spec_of(dataset: str, root: Path | None) -> DatasetSpec:
    """Classes of a data set; `root` is only read where they stand in a file there."""
    declared = _declared_spec(dataset)
    if isinstance(declared, DatasetSpec):
        return declared
    assert root is not None and callable(declared), dataset
    found: DatasetSpec = declared(root)
    return found


def has_fixed_spec(dataset: str) -> bool:
    """Whether the classes are known without the root."""
    return isinstance(_declared_spec(dataset), DatasetSpec)


def black_items(dataset: str, split: str) -> Items:
    """The items of a set that is made in memory."""
    module = _module(table.TABLE[dataset])
    return Items(module.list_items(module.NUM_IMAGES if split == "train" else 1))


def split_items(
    dataset: str, root: Path, split: str, folds: Folds, skip: SkipList | None = None
) -> Items:
    """The items of `split` ("train", "val" or "test") without the known bad pairs of `skip`.

    Raises DataError for a split that the set does not have, and for files that are missing.
    """
    faults: dict[Path, str] = {}
    archives = places.archives_of(root)
    try:
        found = _listed(row_of(dataset), root, split, folds)
    except MissingFiles as error:
        if skip is None:
            raise
        found, faults = error.items, error.faults
    except DataError as error:
        unread = places.packed_otherwise(root)
        if not archives and not unread:
            raise
        ways = [f"looked into {named(archives)}, too"] if archives else []
        if root.is_file():
            ways = ["if the set has more archives, name the folder that holds all of them"]
        if unread:
            ways.append(f"{named(unread)} cannot be read in place: unpack, or pack as zip or tar")
        raise DataError("; ".join([str(error), *ways])) from error
    items = Items(found, notes_of(found))
    if archives:
        files = (path for item in items for path in (item.image, *item.label_files()))
        items.notes += places.doubled(files, root)
    return items if skip is None else skip.apply(items, faults)


def _listed(row: Row, root: Path, split: str, folds: Folds) -> list[Item]:
    """The items of a split as `folds` say; DataError for a split that the set does not have."""
    if split not in row.splits:
        raise DataError(f"{row.name} has no split {split}; it has {' and '.join(row.splits)}")
    if folds.is_joint:
        split = row.joint.get(split, split)
    taken = {name: getattr(folds, name) for name in row.folds}
    found: list[Item] = _module(row).list_items(root, split, **taken)
    return found


def splits_of(dataset: str, root: Path) -> tuple[str, ...]:
    """The splits that a data set has, of a described one those in its file."""
    row = row_of(dataset)
    if not row.described:
        return row.splits
    described = _module(row).splits_of(root)
    return tuple(name for name in row.splits if name in described)
