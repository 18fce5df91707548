# SPDX-License-Identifier: Apache-2.0
"""From settings to a data set: its root, its classes, the items of a split."""

from __future__ import annotations

from pathlib import Path

from datasets import cityscapes, registry
from datasets.listing import Items
from datasets.registry import NULL, Folds
from datasets.skip import SkipList
from datasets.spec import DatasetSpec
from runtime.errors import UserError
from settings import Settings


def folds(settings: Settings) -> Folds:
    """Which part of the data set is which split."""
    return Folds(
        cv=settings.data.cv,
        cv_splits=settings.DATASET.CV_SPLITS,
        is_joint=settings.data.city_mode == "trainval",
    )


def data_root(settings: Settings) -> Path:
    """The folder (for "custom" the YAML file) of `--dataset`.

    Raises UserError that says where to set it when it is empty or does not exist.
    """
    dataset = settings.data.dataset
    key = registry.entry_of(dataset).root_key
    value: str = getattr(settings.DATASET, key)
    flag = "--set_cityscapes_root DIR" if dataset == "cityscapes" else f"--set DATASET.{key}=PATH"
    where = f"set it with {flag}, the environment variable HISEG_{key}, or in paths.yml"
    if not value:
        raise UserError(f"--dataset {dataset}: DATASET.{key} is not set; {where}")
    path = Path(settings.expand(value))
    if not path.exists():
        raise UserError(
            f"--dataset {dataset}: DATASET.{key} is {path}, which is not there; {where}"
        )
    return path


def label_root(settings: Settings) -> Path:
    """The folder that the label files of `--dataset` lie below."""
    return registry.label_root(settings.data.dataset, data_root(settings))


def offset_root(settings: Settings) -> Path:
    """The folder that boundary files lie below."""
    place = settings.DATASET.DT_OFFSET_DIR
    return Path(settings.expand(place)) if place else label_root(settings)


def dataset_spec(settings: Settings) -> DatasetSpec:
    """Classes of `--dataset`."""
    dataset = settings.data.dataset
    if dataset == NULL:
        return cityscapes.SPEC
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
    if dataset == NULL:
        return registry.null_items(split)
    registry.entry_of(dataset)
    skip = skip or open_skip_list(settings)
    return registry.split_items(dataset, data_root(settings), split, folds(settings), skip)


def cache_dir(settings: Settings) -> Path:
    """Where centroids and the facts of checked sets are kept."""
    return Path(settings.expand(settings.DATASET.CENTROID_ROOT or "ASSETS_PATH/uniform_centroids"))
