# SPDX-License-Identifier: Apache-2.0
"""From settings to a data set: its root, its classes, the items of a split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from datasets import imagenet, places, registry
from datasets.listing import Items
from datasets.registry import Folds
from datasets.skip import SkipList
from datasets.spec import DatasetSpec
from datasets.table import CLASS_FOLDERS, TABLE, Root, Row
from runtime.errors import UserError
from settings import Settings


def folds(settings: Settings) -> Folds:
    """Which part of the data set is which split."""
    return Folds(
        cv=settings.data.cv,
        cv_splits=settings.DATASET.CV_SPLITS,
        is_joint=settings.data.city_mode == "trainval",
    )


def root_ways(root: Root) -> str:
    """How a root is set."""
    flag = f"{root.flag} DIR" if root.flag else f"--set DATASET.{root.key}=PATH"
    return f"set it with {flag}, the environment variable HISEG_{root.key}, or in paths.yml"


def data_root(settings: Settings) -> Path:
    """The folder (of a described set the YAML file) of `--dataset`.

    Raises UserError that says where to set it when it is empty or does not exist.
    """
    row = registry.row_of(settings.data.dataset)
    return _root(settings, row, lambda path: path.exists(), "not there")


def imagenet_root(settings: Settings) -> Path:
    """The folder with train/ and val/ of a set of class folders; UserError as `data_root`."""
    return _root(settings, TABLE[settings.data.dataset], lambda path: path.is_dir(), "no folder")


def _root(settings: Settings, row: Row, is_good: Callable[[Path], bool], otherwise: str) -> Path:
    assert row.root is not None, row.name
    key, value, where = row.root.key, settings.DATASET.root(row.root.key), root_ways(row.root)
    if not value:
        raise UserError(f"--dataset {row.name}: DATASET.{key} is not set; {where}")
    # The archives in a root of class folders may have hundreds of gigabytes: only the one that is
    # asked for is opened, where the folder of its split is missing.
    path = places.mounted(Path(settings.expand(value)), beside=row.kind != CLASS_FOLDERS)
    if not is_good(path):
        raise UserError(
            f"--dataset {row.name}: DATASET.{key} is {path}, which is {otherwise}; {where}"
        )
    return path


def has_split(settings: Settings, split: str) -> bool:
    """Whether a set of class folders has the folder of a split, or its archive."""
    return imagenet.split_folder(imagenet_root(settings), split).is_dir()


def label_root(settings: Settings) -> Path:
    """The folder that the label files of `--dataset` lie below."""
    return registry.label_root(settings.data.dataset, data_root(settings))


def offset_root(settings: Settings) -> Path:
    """The folder that boundary files lie below."""
    place = settings.DATASET.DT_OFFSET_DIR
    return Path(settings.expand(place)) if place else places.unpacked(label_root(settings))


def dataset_spec(settings: Settings) -> DatasetSpec:
    """Classes of `--dataset`."""
    dataset = settings.data.dataset
    root = None if registry.has_fixed_spec(dataset) else data_root(settings)
    return registry.spec_of(dataset, root)


def open_skip_list(settings: Settings) -> SkipList | None:
    """The known bad pairs of DATASET.SKIP_LIST; None where it is not set."""
    path = settings.DATASET.SKIP_LIST
    return SkipList(Path(settings.expand(path))) if path else None


def split_items(settings: Settings, split: str, skip: SkipList | None = None) -> Items:
    """The items of `split` ("train", "val" or "test") of `--dataset` without known bad pairs.

    `skip` is the list of these, read anew without it. Raises DataError for files that are missing.
    """
    dataset = settings.data.dataset
    if registry.is_black(dataset):
        return registry.black_items(dataset, split)
    registry.row_of(dataset)
    skip = skip or open_skip_list(settings)
    return registry.split_items(dataset, data_root(settings), split, folds(settings), skip)


def cache_dir(settings: Settings) -> Path:
    """Where centroids and the facts of checked sets are kept."""
    return Path(settings.expand(settings.DATASET.CENTROID_ROOT or "ASSETS_PATH/uniform_centroids"))
