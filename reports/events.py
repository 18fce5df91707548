# SPDX-License-Identifier: Apache-2.0
"""The event files of a run, as TensorBoard reads them: numbers and pictures by their names."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATTERN = "events.out.tfevents.*"
LENGTH, CHECKSUM = struct.Struct("<Q"), 4  # length, its checksum, the record, its checksum
MAX_RECORD = 1 << 30

Points = dict[int, float]  # step -> value


@dataclass
class History:
    """numbers: by name. pictures: by name, step and PNG of the last one. files: how many were read.

    broken: names of files that end inside a record, as one that is being written may.
    """

    numbers: dict[str, Points] = field(default_factory=dict)
    pictures: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    files: int = 0
    broken: list[str] = field(default_factory=list)


def read_history(directory: Path) -> History:
    """What the event files of a run hold; OSError for one that cannot be read.

    A resumed run has a file for each of its parts. What an earlier part wrote after the point where
    a later one starts is dropped, because that was lost.
    """
    found = History()
    for path in sorted(directory.glob(PATTERN)):
        found.files += 1
        started: set[str] = set()
        try:
            for event in _events(path.read_bytes()):
                for value in event.summary.value:
                    _take(found, started, int(event.step), value)
        except (ValueError, importlib.import_module("google.protobuf.message").DecodeError):
            found.broken.append(path.name)
    return found


def _take(found: History, started: set[str], step: int, value: Any) -> None:
    if value.HasField("image"):
        found.pictures[value.tag] = (step, bytes(value.image.encoded_image_string))
    elif value.HasField("simple_value"):
        points = found.numbers.setdefault(value.tag, {})
        if value.tag not in started:
            started.add(value.tag)
            for later in [each for each in points if each >= step]:
                del points[later]
        points[step] = float(value.simple_value)


def _events(content: bytes) -> Iterator[Any]:
    """The records of a file; ValueError for one that ends inside a record."""
    kind = importlib.import_module("tensorboardX.proto.event_pb2").Event
    place, head = 0, LENGTH.size + CHECKSUM
    while place < len(content):
        if place + head > len(content):
            raise ValueError("ends inside a header")
        (length,) = LENGTH.unpack_from(content, place)
        end = place + head + length
        if length > MAX_RECORD or end + CHECKSUM > len(content):
            raise ValueError("ends inside a record")
        yield kind.FromString(content[place + head : end])
        place = end + CHECKSUM
