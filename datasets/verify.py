# SPDX-License-Identifier: Apache-2.0
"""What is checked before a long run: that every label fits its image and holds known ids only.

Sizes come from the file headers. Ids need the whole label, so that a set that was found to be
good leaves a marker, named after all that the answer depends on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from datasets.base import DataError, image_size, label_size, mismatch_text, read_item_label
from datasets.spec import DatasetSpec, Item


def fingerprint(items: Sequence[Item], spec: DatasetSpec) -> str:
    """SHA-256 over names, sizes and times of all files, and the id map.

    Raises DataError for a file that is not there.
    """
    digest = hashlib.sha256(json.dumps(spec.lut().tolist()).encode())
    for item in items:
        stamps = [_stamp(path) for path in (item.image, *item.label_files())]
        rules = [] if item.auto is None else [item.auto.rules()]
        digest.update(json.dumps([item.name, stamps, *rules]).encode())
    return digest.hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path}: can not be read: {error.strerror}") from error
    return stat.st_size, stat.st_mtime_ns


def verify_items(items: Sequence[Item], spec: DatasetSpec, cache_dir: Path, workers: int) -> None:
    """Raise DataError for the first item whose label does not fit; unlabelled ones are passed.

    A set that passed is not read again while its files stay as they are.
    """
    marker = cache_dir / f"{spec.name}_verified_{fingerprint(items, spec)[:16]}"
    if marker.is_file():
        return

    def check(item: Item) -> None:
        if item.label is None:
            return
        sizes = image_size(item.image), label_size(item.label)
        if sizes[0] != sizes[1]:
            raise DataError(mismatch_text(item, *sizes))
        read_item_label(item, spec)

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        try:
            for _ in pool.map(check, items):
                continue
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    with contextlib.suppress(OSError):  # a read-only place costs only the next start's time
        cache_dir.mkdir(parents=True, exist_ok=True)
        marker.touch()
