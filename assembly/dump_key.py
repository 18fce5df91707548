# SPDX-License-Identifier: Apache-2.0
"""What decides about a dumped file, so that one of another network, class table or image is redone.

key = evaluation_key(settings, protocol, spec, precision.name)   # of all images alike
images = image_stamps(items)                                     # of each one
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.spec import DatasetSpec, Item
from runtime.files import stamp_if_there
from runtime.runlog import plain
from settings import Settings, catalogue


def evaluation_key(
    settings: Settings, protocol: Mapping[str, Any], spec: DatasetSpec, precision: str
) -> str:
    """Equal for two evaluations exactly if what they write of the same image is interchangeable.

    It covers weights, settings, options of the network and the class table: ids, names, colours.
    """
    flags = {
        name: each.of(settings)
        for name, each in catalogue().items()
        if each.declared.flags and each.decides
    }
    network = settings.network
    files = [_stamps(Path(path)) for path in (network.snapshot, network.snapshot_pe) if path]
    options = dataclasses.asdict(settings.MODEL)
    parts = [flags, options, dict(protocol), files, precision, _table(spec)]
    text = json.dumps(plain(parts), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _table(spec: DatasetSpec) -> list[list[str]]:
    """Every field of the class table; the order of a mapping does not count."""
    values = {item.name: getattr(spec, item.name) for item in dataclasses.fields(spec)}
    return [
        [name, repr(sorted(value.items(), key=repr) if isinstance(value, Mapping) else value)]
        for name, value in sorted(values.items())
    ]


def image_stamps(items: Sequence[Item]) -> dict[str, tuple[int, str]]:
    """Name -> position in the set, and path, size and time of the files it is made from."""
    return {item.name: (index, _item_stamp(item)) for index, item in enumerate(items)}


def _item_stamp(item: Item) -> str:
    files = [(str(path), stamp_if_there(path)) for path in (item.image, *item.label_files())]
    rules = [] if item.auto is None else item.auto.rules()
    reading = [item.turned, item.levels]
    return hashlib.sha256(json.dumps([files, rules, reading]).encode()).hexdigest()[:32]


def _stamps(path: Path) -> list[tuple[int, int] | None]:
    """The stamp of a file of weights, of a folder those of all files in it."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [stamp_if_there(file) for file in files]
