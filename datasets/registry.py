# SPDX-License-Identifier: Apache-2.0
"""The table of data sets: where the root of each is set, its classes, its lists of images.

A new data set is a module with a spec and `list_items`, one row of `TABLE`, its name in
`settings.data.DATASETS` and the key of its root in `settings.roots.DatasetConfig`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from datasets import (
    ade20k,
    bdd100k,
    camvid,
    cityscapes,
    custom,
    gtav,
    kitti,
    mapillary,
    nullloader,
    pascal_context,
    synthetic,
)
from datasets.listing import Items, MissingFiles, notes_of
from datasets.skip import SkipList
from datasets.spec import DatasetSpec, Item
from runtime.errors import UserError

NULL = "nullloader"  # random images: no root, no labels


@dataclass(frozen=True, kw_only=True)
class Folds:
    """Which part of a data set is which split.

    cv: the cross-validation fold, 0 for the published split; cv_splits: how many there are.
    is_joint: training images are those of train and val together.
    """

    cv: int = 0
    cv_splits: int = 3
    is_joint: bool = False


Listing = Callable[[Path, str, Folds], list[Item]]


@dataclass(frozen=True)
class Entry:
    """One data set: the leaf of the section DATASET with its root, its classes, its items.

    `spec` is a function of the root where the classes stand in a file there. `list_items`
    gets the root and the split, one of `splits`. `label_root` is a function of the root where
    that is not the folder of the label files.
    """

    root_key: str
    spec: DatasetSpec | Callable[[Path], DatasetSpec]
    list_items: Listing
    splits: tuple[str, ...] = ("train", "val", "test")
    label_root: Callable[[Path], Path] | None = None


def _plain(list_items: Callable[[Path, str], list[Item]]) -> Listing:
    """A listing without folds."""
    return lambda root, split, folds: list_items(root, split)


def _folded(list_items: Callable[..., list[Item]]) -> Listing:
    """A listing with cross-validation folds of cities."""
    return lambda root, split, folds: list_items(
        root, split, cv=folds.cv, cv_splits=folds.cv_splits
    )


def _pascal_context(spec: DatasetSpec) -> Entry:
    """One protocol of PASCAL-Context."""
    listing = _plain(pascal_context.list_items)
    return Entry("PASCAL_CONTEXT_DIR", spec, listing, splits=pascal_context.SPLITS)


def _joint(listing: Listing, splits: Mapping[str, str]) -> Listing:
    """A listing whose splits are others when training is on train and val."""

    def list_items(root: Path, split: str, folds: Folds) -> list[Item]:
        return listing(root, splits.get(split, split) if folds.is_joint else split, folds)

    return list_items


def _kitti_folds(root: Path, split: str, folds: Folds) -> list[Item]:
    return kitti.list_items(root, split, cv=folds.cv)


JOINT_TRAINING = {"train": "trainval"}


TABLE: dict[str, Entry] = {
    "cityscapes": Entry(
        "CITYSCAPES_DIR",
        cityscapes.SPEC,
        _joint(_folded(cityscapes.list_items), JOINT_TRAINING),
    ),
    "synthetic": Entry(
        "SYNTHETIC_DIR", synthetic.SPEC, _joint(_folded(synthetic.list_items), JOINT_TRAINING)
    ),
    "camvid": Entry(
        "CAMVID_DIR",
        camvid.SPEC,
        _joint(_plain(camvid.list_items), {**JOINT_TRAINING, "val": "test"}),
    ),
    "bdd100k": Entry("BDD100K_DIR", bdd100k.SPEC, _plain(bdd100k.list_items)),
    "gtav": Entry("GTAV_DIR", gtav.SPEC, _folded(gtav.list_items), splits=gtav.SPLITS),
    "kitti": Entry(
        "KITTI_DIR",
        kitti.SPEC,
        _joint(_kitti_folds, {**JOINT_TRAINING, "val": "trainval"}),
    ),
    "mapillary": Entry("MAPILLARY_DIR", mapillary.make_spec, _plain(mapillary.list_items)),
    "ade20k": Entry("ADE20K_DIR", ade20k.SPEC, _plain(ade20k.list_items)),
    "pascal_context": _pascal_context(pascal_context.SPEC),
    "pascal_context_59": _pascal_context(pascal_context.SPEC_59),
    "custom": Entry(
        "CUSTOM_YAML", custom.make_spec, _plain(custom.list_items), label_root=custom.root_of
    ),
}


def entry_of(name: str) -> Entry:
    """The row of a data set; UserError for one without a row."""
    if name not in TABLE:
        known = ", ".join([*TABLE, NULL])
        raise UserError(f"--dataset {name} is not supported here; one of {known} is")
    return TABLE[name]


def label_root(dataset: str, root: Path) -> Path:
    """The folder that the label files of a data set lie below."""
    find = entry_of(dataset).label_root
    return root if find is None else find(root)


def spec_of(dataset: str, root: Path | None) -> DatasetSpec:
    """Classes of a data set; `root` is only read where they stand in a file there."""
    spec = entry_of(dataset).spec
    if isinstance(spec, DatasetSpec):
        return spec
    assert root is not None, dataset
    return spec(root)


def has_fixed_spec(dataset: str) -> bool:
    """Whether the classes are known without the root."""
    return dataset == NULL or isinstance(entry_of(dataset).spec, DatasetSpec)


def null_items(split: str) -> Items:
    """The items of `--dataset nullloader`."""
    return Items(nullloader.list_items(nullloader.NUM_IMAGES if split == "train" else 1))


def split_items(
    dataset: str, root: Path, split: str, folds: Folds, skip: SkipList | None = None
) -> Items:
    """The items of `split` ("train", "val" or "test") without the known bad pairs of `skip`.

    Raises DataError for files that are missing.
    """
    faults: dict[Path, str] = {}
    try:
        found = entry_of(dataset).list_items(root, split, folds)
    except MissingFiles as error:
        if skip is None:
            raise
        found, faults = error.items, error.faults
    items = Items(found, notes_of(found))
    return items if skip is None else skip.apply(items, faults)


def splits_of(dataset: str, root: Path) -> tuple[str, ...]:
    """The splits that a data set has; those of a custom set are the ones its file describes."""
    entry = entry_of(dataset)
    if dataset != "custom":
        return entry.splits
    described = custom.splits_of(root)
    return tuple(name for name in entry.splits if name in described)
