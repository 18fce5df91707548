# SPDX-License-Identifier: Apache-2.0
"""COCO: one JSON file with `images`, `annotations` and `categories`.

Classes are in the order of their category ids. A region is the union of its polygons, or run
lengths, compressed or not. Crowds are drawn first, then the others from large to small, because
COCO says nothing about what lies in front.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets.annotations.contract import Annotations, Fault, Picture, Shape, read_json, ring
from datasets.annotations.rle import decoded, from_text
from datasets.base import DataError
from runtime.limits import brief


def is_coco(content: object) -> bool:
    """Whether a JSON file looks like COCO's."""
    return isinstance(content, dict) and {"images", "annotations"} <= content.keys()


def read_coco(path: Path) -> Annotations:
    """All images and regions of a file; DataError for one that is not COCO's."""
    content = read_json(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"{path}: has no list {key!r}, as a COCO file has")
    found = Annotations()
    names = _categories(content["categories"], path)
    found.classes = list(dict.fromkeys(names[number] for number in sorted(names)))
    pictures = dict(_pictures(content["images"], path, found.faults))
    found.pictures = list(pictures.values())
    for place, entry in enumerate(content["annotations"]):
        name = brief(entry.get("id", place) if isinstance(entry, dict) else place)
        where = f"annotation {name}"
        try:
            if not isinstance(entry, dict):
                raise Fault("is no object")
            number, category = entry.get("image_id"), entry.get("category_id")
            picture = pictures.get(number) if isinstance(number, int | str) else None
            if picture is None:
                raise Fault(f"belongs to image {brief(number)}, which is not listed")
            where = f"{picture.file}: {where}"
            if not isinstance(category, int) or category not in names:
                raise Fault(f"has category {brief(category)}, which is not listed")
            picture.shapes.append(_shape(entry, names[category], f"annotation {name}", picture))
        except Fault as error:
            found.faults.append(f"{path}: {where}: {error}")
    return found


def _categories(entries: list[Any], path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for entry in entries:
        fits = isinstance(entry, dict) and isinstance(entry.get("id"), int)
        if not fits or not isinstance(entry.get("name"), str):
            raise DataError(f"{path}: categories: an id and a name are wanted, got {entry!r:.80}")
        if entry["id"] in names:
            raise DataError(f"{path}: categories: the id {entry['id']} stands twice")
        names[entry["id"]] = entry["name"]
    return names


def _pictures(
    entries: list[Any], path: Path, faults: list[str]
) -> Iterator[tuple[object, Picture]]:
    seen = set()
    for number, entry in enumerate(entries):
        file = entry.get("file_name") if isinstance(entry, dict) else None
        if not isinstance(file, str) or not isinstance(entry.get("id"), int | str):
            faults.append(f"{path}: images: entry {number} has no file_name and id")
            continue
        if entry["id"] in seen:
            faults.append(f"{path}: {file}: the image id {entry['id']} stands twice")
            continue
        seen.add(entry["id"])
        sides = entry.get("height"), entry.get("width")
        known = all(isinstance(side, int) and side > 0 for side in sides)
        size = (int(sides[0]), int(sides[1])) if known else None
        yield entry["id"], Picture(file=file, source=path, size=size, near=(path.parent,))


def _shape(entry: Mapping[str, Any], label: str, where: str, picture: Picture) -> Shape:
    """One annotation; Fault if it is no region."""
    segmentation, is_crowd = entry.get("segmentation"), bool(entry.get("iscrowd"))
    shape = Shape(label=label, where=f"{where} ({label})")
    if isinstance(segmentation, Mapping):
        shape.mask = _mask(segmentation, picture)
    elif isinstance(segmentation, list) and segmentation:
        for part in segmentation:
            if not isinstance(part, list) or len(part) % 2:
                raise Fault("a polygon is not a list x, y, x, y, ...")
            shape.rings.append(ring(list(zip(part[::2], part[1::2], strict=True))))
    else:
        raise Fault("has no segmentation, a box alone is no region")
    shape.order = (0.0 if is_crowd else 1.0, -shape.area)
    return shape


def _mask(segmentation: Mapping[str, Any], picture: Picture) -> Any:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    fits = isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) for n in size)
    if not fits or not isinstance(counts, list | str):
        raise Fault("its run lengths have no size and counts")
    assert isinstance(size, list)
    if picture.size is not None and tuple(size) != picture.size:
        height, width = picture.size
        raise Fault(f"its run lengths are of {size[1]}x{size[0]}, the image is {width}x{height}")
    runs = from_text(counts) if isinstance(counts, str) else counts
    return decoded(runs, size[0], size[1], by_column=True)
