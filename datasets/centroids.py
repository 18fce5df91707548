# SPDX-License-Identifier: Apache-2.0
"""Where each class lies: one point per class and tile of every training label.

`datasets.uniform` draws crops around these points. Finding them means reading every label, so they
are cached in a file whose name is a hash of all that they depend on; a file that is incomplete or
belongs to other inputs is never used.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.base import ids_in_use, label_size, read_item_label
from datasets.spec import DatasetSpec, Item
from datasets.stamps import StampOf, stamp
from runtime.files import write_atomic
from runtime.names import fitted, part
from runtime.parallel import in_threads
from runtime.progress import Log, Progress

VERSION = 1  # of the computation and of the file; a new one makes all caches stale

Points = dict[int, list[tuple[int, int]]]  # class -> (x, y)
Centroids = dict[int, list[tuple[int, int, int]]]  # class -> (item, x, y)


def label_centroids(label: np.ndarray, num_classes: int, tile: int) -> Points:
    """The centre of mass of every class in every whole tile, as (x, y) of the whole image.

    label: (H, W) uint8 train ids. Centres are cut to whole pixels inside the tile; tiles are
    visited row by row, what remains at the right and at the bottom is left out. A tile larger than
    the image is clipped to it. Classes absent from every tile have no key.
    """
    height, width = (min(tile, side) for side in label.shape)
    num_rows, num_cols = label.shape[0] // height, label.shape[1] // width
    label = np.ascontiguousarray(label[: num_rows * height, : num_cols * width])
    corner_y = np.arange(num_rows)[:, None] * height
    corner_x = np.arange(num_cols)[None] * width
    points: Points = {}
    for class_id in np.flatnonzero(ids_in_use(label)[:num_classes]).tolist():
        mask = (label == class_id).view(np.uint8)
        along_x = _band_sums(mask, height, 0).reshape(num_rows, num_cols, width)
        counts = along_x.sum(-1)
        found = counts > 0
        if not found.any():
            continue
        along_y = _band_sums(mask, width, 1).reshape(num_cols, num_rows, height)
        total = np.maximum(counts, 1)
        x = along_x @ np.arange(width) // total + corner_x
        y = (along_y @ np.arange(height)).T // total + corner_y
        points[class_id] = list(zip(x[found].tolist(), y[found].tolist(), strict=True))
    return points


def _band_sums(mask: np.ndarray, thickness: int, axis: int) -> np.ndarray:
    """Sums across each band: axis 0 -> (bands of rows, W), axis 1 -> (bands of columns, H)."""
    sums = []
    for start in range(0, mask.shape[axis], thickness):
        band = mask[start : start + thickness] if axis == 0 else mask[:, start : start + thickness]
        sums.append(cv2.reduce(band, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel())
    return np.stack(sums).astype(np.int64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Known:
    """What is already known about a set.

    stamps: sizes and times of its files. points: those of every item, if they have just been read.
    """

    stamps: StampOf = stamp
    points: Sequence[Points] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Remarks:
    """What `log` is told about a set, which `title` names.

    There is a line if the labels are smaller than the tile, and with `absent` one that names the
    classes without a pixel.
    """

    log: Log = print
    title: str = "images"
    absent: bool = True


NOTHING_KNOWN, REMARKS = Known(), Remarks()


def load_or_build(
    items: Sequence[Item],
    spec: DatasetSpec,
    tile: int,
    cache_dir: Path,
    workers: int,
    *,
    known: Known = NOTHING_KNOWN,
    remarks: Remarks = REMARKS,
    progress: Progress | None = None,
) -> Centroids:
    """Centroids of all labels of `items` as (index of the item, x, y) per class, cached.

    Items without a label yield nothing. With several ranks, call it on one rank first: the
    others then read the file. A cache directory that cannot be written costs one log line and
    the time of the next start. Raises DataError for a label that cannot be read.
    """
    key = cache_key(items, spec, tile, known.stamps)
    log, title, ready = remarks.log, remarks.title, known.points
    path = cache_dir / fitted(part(spec.name), after=f"_tile{tile}_{key[:16]}.json")
    centroids = _load(path, key, len(items), spec.num_classes, log)
    if centroids is None:
        found = _read(items, spec, tile, workers, progress) if ready is None else ready
        centroids = _numbered(found)
        _save(path, key, centroids, log)
    _report_clipped(items, tile, log, title)
    absent = [name for index, name in enumerate(spec.class_names) if index not in centroids]
    if absent and remarks.absent:
        log(f"class-uniform sampling, {title}: no pixel of {', '.join(absent)} in the labels")
    return centroids


def reading_rules(spec: DatasetSpec) -> str:
    """Everything in a spec that decides how label files are read, for hashes."""
    values = {
        each.name: getattr(spec, each.name)
        for each in dataclasses.fields(spec)
        if each.name not in ("name", "class_names", "palette", "custom")
    }
    plain = {
        name: sorted(value.items()) if isinstance(value, Mapping) else value
        for name, value in values.items()
    }
    return json.dumps([spec.num_classes, plain], default=str)


def cache_key(
    items: Sequence[Item],
    spec: DatasetSpec,
    tile: int,
    stamps: StampOf = stamp,
) -> str:
    """Hash of all that the centroids depend on: files, label map, tile, version.

    A file is identified by item name, label name, size and modification time, not by its folder: a
    set that is moved keeps its cache. Raises DataError for a missing label.
    """
    digest = hashlib.sha256(f"{VERSION} {tile} {reading_rules(spec)}".encode())
    for item in items:
        parts: list[object] = [item.name]
        parts += [(path.name, *stamps(path)) for path in item.label_files()]
        if item.auto is not None:
            parts.append(item.auto.rules())
        digest.update(repr(parts).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _read(
    items: Sequence[Item], spec: DatasetSpec, tile: int, workers: int, progress: Progress | None
) -> list[Points]:
    """Read all labels in threads: decoding and counting run outside the interpreter lock."""

    def points_of(item: Item) -> Points:
        if item.label is None:
            return {}
        return label_centroids(read_item_label(item, spec), spec.num_classes, tile)

    found: list[Points] = []
    for points in in_threads(points_of, items, workers):
        found.append(points)
        if progress is not None:
            progress(len(found), len(items))
    return found


def _numbered(found: Iterable[Points]) -> Centroids:
    """The points of all labels together, each with the number of its item."""
    centroids: Centroids = {}
    for index, points in enumerate(found):
        for class_id, pairs in points.items():
            centroids.setdefault(class_id, []).extend((index, x, y) for x, y in pairs)
    return dict(sorted(centroids.items()))


def _report_clipped(items: Iterable[Item], tile: int, log: Log, title: str) -> None:
    """One line when the first label is smaller than the tile."""
    first = next((item.label for item in items if item.label is not None), None)
    if first is None:
        return
    height, width = label_size(first)
    if min(height, width) < tile:
        log(
            f"class-uniform sampling, {title}: the labels ({width}x{height}) are smaller than "
            f"--class_uniform_tile {tile}: "
            f"tiles of {min(width, tile)}x{min(height, tile)} are used"
        )


def _load(path: Path, key: str, num_items: int, num_classes: int, log: Log) -> Centroids | None:
    """The cached centroids, None when there are none that can be trusted."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log(f"{path}: centroid cache is broken ({error}); building it again")
        return None
    if not _is_sound(record, key, num_items, num_classes):
        log(f"{path}: centroid cache does not fit its contents; building it again")
        return None
    return {
        int(class_id): [(item, x, y) for item, x, y in points]
        for class_id, points in record["centroids"].items()
    }


def _is_sound(record: object, key: str, num_items: int, num_classes: int) -> bool:
    """Whether a record has this key and its numbers are those that were written."""
    if not isinstance(record, Mapping) or record.get("key") != key:
        return False
    centroids = record.get("centroids")
    if not isinstance(centroids, Mapping) or record.get("sum") != _checksum(centroids):
        return False
    classes = {str(class_id) for class_id in range(num_classes)}
    return set(centroids) <= classes and all(
        0 <= point[0] < num_items for points in centroids.values() for point in points
    )


def _checksum(centroids: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(centroids, sort_keys=True).encode()).hexdigest()


def _save(path: Path, key: str, centroids: Centroids, log: Log) -> None:
    """Write the cache, whole or not at all; a failure is one line of `log`."""
    texts: dict[str, object] = {str(class_id): points for class_id, points in centroids.items()}
    record = {"key": key, "sum": _checksum(texts), "centroids": texts}
    try:
        write_atomic(path, json.dumps(record).encode(), sync=True)
    except OSError as error:
        log(f"{path}: centroids are not cached: {error.strerror}")
