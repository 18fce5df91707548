# SPDX-License-Identifier: Apache-2.0
"""The table of data sets: where the root of each is set, its classes, its lists of images.

A new data set is a module with a spec and `list_items`, one row of `TABLE`, its name in
`config.DATASETS` and the key of its root in `config.DatasetConfig`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from config import Config, UserError
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

Listing = Callable[[Path, str, argparse.Namespace, Config], list[Item]]


@dataclass(frozen=True)
class Entry:
    """One data set: the leaf of `cfg.DATASET` with its root, its classes, its items.

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
    """A listing that depends on no flag."""
    return lambda root, split, args, cfg: list_items(root, split)


def _folds(list_items: Callable[..., list[Item]]) -> Listing:
    """A listing with cross-validation folds of cities."""
    return lambda root, split, args, cfg: list_items(
        root, split, cv=args.cv, cv_splits=cfg.DATASET.CV_SPLITS
    )


def _pascal_context(spec: DatasetSpec) -> Entry:
    """One protocol of PASCAL-Context."""
    listing = _plain(pascal_context.list_items)
    return Entry("PASCAL_CONTEXT_DIR", spec, listing, splits=pascal_context.SPLITS)


def _joint(listing: Listing, splits: Mapping[str, str]) -> Listing:
    """A listing whose splits are others with `--city_mode trainval`."""

    def list_items(root: Path, split: str, args: argparse.Namespace, cfg: Config) -> list[Item]:
        joint = args.city_mode == "trainval"
        return listing(root, splits.get(split, split) if joint else split, args, cfg)

    return list_items


def _kitti_folds(root: Path, split: str, args: argparse.Namespace, cfg: Config) -> list[Item]:
    return kitti.list_items(root, split, cv=args.cv)


JOINT_TRAINING = {"train": "trainval"}


TABLE: dict[str, Entry] = {
    "cityscapes": Entry(
        "CITYSCAPES_DIR",
        cityscapes.SPEC,
        _joint(_folds(cityscapes.list_items), JOINT_TRAINING),
    ),
    "synthetic": Entry(
        "SYNTHETIC_DIR", synthetic.SPEC, _joint(_folds(synthetic.list_items), JOINT_TRAINING)
    ),
    "camvid": Entry(
        "CAMVID_DIR",
        camvid.SPEC,
        _joint(_plain(camvid.list_items), {**JOINT_TRAINING, "val": "test"}),
    ),
    "bdd100k": Entry("BDD100K_DIR", bdd100k.SPEC, _plain(bdd100k.list_items)),
    "gtav": Entry("GTAV_DIR", gtav.SPEC, _folds(gtav.list_items), splits=gtav.SPLITS),
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


def _entry(name: str) -> Entry:
    if name not in TABLE:
        known = ", ".join([*TABLE, "nullloader"])
        raise UserError(f"--dataset {name} is not supported here; choose one of {known}")
    return TABLE[name]


def data_root(dataset: str, cfg: Config) -> Path:
    """The folder (for "custom" the YAML file) of a data set.

    Raises UserError that says where to set it when it is empty or does not exist.
    """
    key = _entry(dataset).root_key
    value = getattr(cfg.DATASET, key)
    flag = "--set_cityscapes_root DIR" if dataset == "cityscapes" else f"--set DATASET.{key}=PATH"
    where = f"set it with {flag}, the environment variable HISEG_{key}, or in paths.yml"
    if not value:
        raise UserError(f"--dataset {dataset}: DATASET.{key} is not set; {where}")
    path = Path(cfg.expand(value))
    if not path.exists():
        raise UserError(
            f"--dataset {dataset}: DATASET.{key} is {path}, which is not there; {where}"
        )
    return path


def label_root(dataset: str, cfg: Config) -> Path:
    """The folder that the label files of a data set lie below."""
    root, find = data_root(dataset, cfg), _entry(dataset).label_root
    return root if find is None else find(root)


def dataset_spec(args: argparse.Namespace, cfg: Config) -> DatasetSpec:
    """Classes of `--dataset`."""
    if args.dataset == "nullloader":
        return cityscapes.SPEC
    spec = _entry(args.dataset).spec
    return spec if isinstance(spec, DatasetSpec) else spec(data_root(args.dataset, cfg))


def open_skip_list(cfg: Config) -> SkipList | None:
    """The known bad pairs of DATASET.SKIP_LIST; None where it is not set."""
    path = cfg.DATASET.SKIP_LIST
    return SkipList(Path(cfg.expand(path))) if path else None


def split_items(
    args: argparse.Namespace, cfg: Config, split: str, skip: SkipList | None = None
) -> Items:
    """The items of `split` ("train", "val" or "test") of `--dataset` without known bad pairs.

    `skip` is the list of these, read anew without it. Raises DataError for files that are missing.
    """
    if args.dataset == "nullloader":
        return Items(nullloader.list_items(nullloader.NUM_IMAGES if split == "train" else 1))
    entry = _entry(args.dataset)
    skip = skip or open_skip_list(cfg)
    faults: dict[Path, str] = {}
    try:
        found = entry.list_items(data_root(args.dataset, cfg), split, args, cfg)
    except MissingFiles as error:
        if skip is None:
            raise
        found, faults = error.items, error.faults
    items = Items(found, notes_of(found))
    return items if skip is None else skip.apply(items, faults)


def splits_of(dataset: str, cfg: Config) -> tuple[str, ...]:
    """The splits that a data set has; those of a custom set are the ones its file describes."""
    entry = _entry(dataset)
    if dataset != "custom":
        return entry.splits
    described = custom.splits_of(data_root(dataset, cfg))
    return tuple(name for name in entry.splits if name in described)
