# SPDX-License-Identifier: Apache-2.0
"""What is checked before a long run: that every label fits its image and holds known ids only.

Sizes come from the file headers. Ids need the whole label, so that a set that was found to be
good leaves a marker, named after all that the answer depends on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from datasets.base import (
    DataError,
    ids_in_use,
    image_size,
    label_size,
    map_ids,
    mismatch_text,
    read_ids,
    read_item_label,
    unknown_ids_text,
)
from datasets.spec import NUM_RAW_IDS, DatasetSpec, Item, shifted_labels_text
from runtime.names import fitted, part

T = TypeVar("T")
R = TypeVar("R")


def fingerprint(items: Sequence[Item], spec: DatasetSpec, *, missing_ok: bool = False) -> str:
    """SHA-256 over names, sizes and times of all files, and the id map.

    Raises DataError for a file that is not there, unless `missing_ok`.
    """
    digest = hashlib.sha256(json.dumps(spec.lut().tolist()).encode())
    for item in items:
        files = (item.image, *item.label_files())
        stamps = [None if missing_ok and not path.exists() else stamp(path) for path in files]
        rules = [] if item.auto is None else [item.auto.rules()]
        digest.update(json.dumps([item.name, stamps, *rules]).encode())
    return digest.hexdigest()


def in_threads(work: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """`work` of all items in their order, `workers` at a time; the first error ends the rest."""
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from pool.map(work, items)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of a file; DataError where it is not there."""
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path}: can not be read: {error.strerror}") from error
    return stat.st_size, stat.st_mtime_ns


def verify_items(items: Sequence[Item], spec: DatasetSpec, cache_dir: Path, workers: int) -> None:
    """Raise DataError for the first item whose label does not fit; unlabelled ones are passed.

    Also raised for label files that are shifted already, which only the whole set can tell.
    A set that passed is not read again while its files stay as they are.
    """
    name = fitted(part(spec.name), after=f"_verified_{fingerprint(items, spec)[:16]}")
    once(cache_dir / name, lambda: _verify(items, spec, workers))


def once(marker: Path, check: Callable[[], None]) -> None:
    """`check()` unless the file `marker` says that it went well before."""
    if marker.is_file():
        return
    check()
    with contextlib.suppress(OSError):  # a read-only place costs only the next start's time
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()


def _verify(items: Sequence[Item], spec: DatasetSpec, workers: int) -> None:
    used = np.zeros(NUM_RAW_IDS, bool)
    for values in in_threads(lambda item: _checked_ids(item, spec), items, workers):
        used |= values
    if shifted := shifted_labels_text(used, spec, len(items)):
        raise DataError(f"{items[0].label}: {shifted}")


def _checked_ids(item: Item, spec: DatasetSpec) -> npt.NDArray[np.bool_]:
    """Which raw ids the label of one item holds, (256,); looked at with `zero_label` only."""
    used = np.zeros(NUM_RAW_IDS, bool)
    if item.label is None:
        return used
    sizes = image_size(item.image), label_size(item.label)
    if sizes[0] != sizes[1]:
        raise DataError(mismatch_text(item, *sizes))
    if not spec.zero_label:
        read_item_label(item, spec)
        return used
    ids = read_ids(item.label)
    if map_ids(ids, spec) is None:
        raise DataError(unknown_ids_text(item.label, ids, spec))
    return ids_in_use(ids)
