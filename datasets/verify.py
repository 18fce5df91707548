# SPDX-License-Identifier: Apache-2.0
"""What is checked before a long run: every image is whole, every label fits it and holds known ids.

Images are known by their headers and ends, labels are read. What was found of a good set is kept in
a file that is named after all that the answer depends on, so the next start only looks at sizes and
times of the files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datasets.base import (
    DataError,
    ids_in_use,
    is_binary,
    item_size,
    label_size,
    map_ids,
    mismatch_text,
    read_ids,
    read_item_label,
    unknown_ids_text,
)
from datasets.centroids import Points, label_centroids, reading_rules
from datasets.completeness import check_whole
from datasets.ids import Depths, low_bits
from datasets.listing import faults_text
from datasets.spec import NUM_RAW_IDS, DatasetSpec, Item, shifted_labels_text
from datasets.stamps import StampOf, stamp
from runtime.files import Stamp, write_atomic
from runtime.names import fitted, part
from runtime.parallel import in_threads
from runtime.progress import Progress

VERSION = 1  # of the check and of its file; a new version checks every set again
AT_ONCE = 32  # items that one thread takes


def fingerprint(
    items: Sequence[Item], spec: DatasetSpec, stamps: Callable[[Path], Stamp | None] = stamp
) -> str:
    """SHA-256 over names, sizes and times of all files, and over how labels are read.

    Raises DataError for a missing file, unless `stamps` knows it.
    """
    digest = hashlib.sha256(f"{VERSION} {reading_rules(spec)}".encode())
    for item in items:
        parts: list[object] = [item.name, stamps(item.image)]
        parts += [stamps(path) for path in item.label_files()]
        if item.auto is not None:
            parts.append(item.auto.rules())
        if not item.turned or item.levels is not None:
            parts.append((item.turned, item.levels))
        digest.update(repr(parts).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


@dataclass(kw_only=True)
class Facts:
    """What a whole set holds.

    labels: their number. counts: pixels of every train id, (256,). used: raw ids that occur,
    (256,); those of auto labels are not recorded. binary: every label is of 0 and 255 only. sizes:
    (H, W) of the images in their order. points: of every label, with a tile, see `label_centroids`.
    depths: bits of the labels.
    """

    labels: int = 0
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(NUM_RAW_IDS, np.int64))
    used: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(NUM_RAW_IDS, bool))
    binary: bool = True
    sizes: list[tuple[int, int]] = field(default_factory=list)
    points: list[Points] | None = None
    faults: dict[Path, str] = field(default_factory=dict)
    depths: Depths = field(default_factory=Depths)

    def add(self, other: Facts) -> None:
        """Add what the following items hold."""
        self.labels += other.labels
        self.counts += other.counts
        self.used |= other.used
        self.binary &= other.binary
        self.sizes += other.sizes
        self.faults.update(other.faults)
        self.depths.add(other.depths)
        if self.points is not None and other.points is not None:
            self.points += other.points

    def absent(self, spec: DatasetSpec) -> list[str]:
        """Names of the classes that no label holds."""
        return [name for number, name in enumerate(spec.class_names) if not self.counts[number]]

    def record(self, key: str) -> dict[str, object]:
        """In the form that the file of a checked set holds."""
        sizes = sorted(set(self.sizes))
        number = {size: place for place, size in enumerate(sizes)}
        return {
            "key": key,
            "labels": self.labels,
            "counts": self.counts.tolist(),
            "used": np.flatnonzero(self.used).tolist(),
            "binary": self.binary,
            "depths": dataclasses.asdict(self.depths),
            "sizes": sizes,
            "size_of": [number[size] for size in self.sizes] if len(sizes) > 1 else len(self.sizes),
        }


def read_facts(path: Path, key: str) -> Facts | None:
    """The record of a set that was checked before; None without one that can be trusted."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["key"] != key:
            return None
        sizes = [(int(height), int(width)) for height, width in record["sizes"]]
        places = record["size_of"]
        facts = Facts(labels=int(record["labels"]), binary=bool(record["binary"]))
        facts.counts += np.asarray(record["counts"], np.int64)
        facts.used[record["used"]] = True
        facts.depths = Depths(**record["depths"])
        facts.sizes = [sizes[at] for at in places] if len(sizes) > 1 else sizes * places
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return facts


def verify_items(
    items: Sequence[Item],
    spec: DatasetSpec,
    cache_dir: Path,
    workers: int,
    *,
    stamps: StampOf = stamp,
    tile: int | None = None,
    progress: Progress | None = None,
) -> Facts:
    """What `items` hold. Raises DataError, naming all of them, for items that do not fit.

    A set that passed is not read again while its files stay as they are; its `points` are then
    None. tile: of class centroids, which come from the same reading.
    """
    key = fingerprint(items, spec, stamps)
    path = cache_dir / fitted(part(spec.name), after=f"_verified_{key[:16]}.json")
    facts = read_facts(path, key)
    if facts is not None:
        return facts
    facts = _read_all(items, spec, workers, tile, progress)
    if facts.faults:
        raise DataError(faults_text(facts.faults))
    refuse_mixed((facts,))
    with contextlib.suppress(OSError):  # a read-only folder only costs time at the next start
        write_atomic(path, json.dumps(facts.record(key)).encode())
    return facts


def refuse_shifted(spec: DatasetSpec, facts: Sequence[Facts], label: Path | None) -> None:
    """Raise DataError for label files that are shifted already, which only the whole set can tell.

    facts: of all splits that belong together; label: one of the files, to name it.
    """
    used = np.any([each.used for each in facts], axis=0)
    if shifted := shifted_labels_text(used, spec, sum(each.labels for each in facts)):
        raise DataError(f"{label}: {shifted}")


def refuse_mixed(facts: Sequence[Facts]) -> None:
    """Raise DataError where labels of few bits stand beside others, in splits that go together."""
    depths = Depths()
    for each in facts:
        depths.add(each.depths)
    if mixed := depths.mixed_text():
        raise DataError(mixed)


def once(marker: Path, check: Callable[[], None]) -> None:
    """`check()` unless the file `marker` says that it went well before."""
    if marker.is_file():
        return
    check()
    with contextlib.suppress(OSError):  # a read-only folder only costs time at the next start
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()


def _read_all(
    items: Sequence[Item],
    spec: DatasetSpec,
    workers: int,
    tile: int | None,
    progress: Progress | None,
) -> Facts:
    found = Facts(points=None if tile is None else [])
    starts = range(0, len(items), AT_ONCE)

    def several(start: int) -> Facts:
        facts = Facts(points=None if tile is None else [])
        for item in items[start : start + AT_ONCE]:
            try:
                facts.add(_inspect(item, spec, tile))
            except DataError as error:
                facts.faults[item.image] = str(error)
        return facts

    for number, facts in enumerate(in_threads(several, starts, workers), 1):
        found.add(facts)
        if progress is not None:
            progress(min(number * AT_ONCE, len(items)), len(items))
    return found


def _inspect(item: Item, spec: DatasetSpec, tile: int | None) -> Facts:
    """One item; DataError where its files do not fit."""
    size = item_size(item)
    check_whole(item)
    facts = Facts(sizes=[size], points=None if tile is None else [{}])
    if item.label is None:
        return facts
    facts.depths = Depths.of(item.label, low_bits(item.label, spec))
    if item.auto is None:
        label = _known_label(item, size, spec, facts)
    else:
        label_shape = label_size(item.label)
        if label_shape != size:
            raise DataError(mismatch_text(item, size, label_shape))
        label, facts.binary = read_item_label(item, spec), False
    facts.labels = 1
    facts.counts += np.bincount(label.ravel(), minlength=NUM_RAW_IDS)
    if tile is not None:
        facts.points = [label_centroids(label, spec.num_classes, tile)]
    return facts


def _known_label(
    item: Item, size: tuple[int, int], spec: DatasetSpec, facts: Facts
) -> npt.NDArray[np.uint8]:
    """The label as train ids, (H, W) uint8; fills in what its raw ids tell."""
    assert item.label is not None
    ids = read_ids(item.label, spec)
    if ids.shape != size:
        raise DataError(mismatch_text(item, size, ids.shape))
    label = map_ids(ids, spec)
    if label is None:
        raise DataError(unknown_ids_text(item.label, ids, spec))
    facts.used, facts.binary = ids_in_use(ids), is_binary(ids)
    return label
