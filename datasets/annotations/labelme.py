# SPDX-License-Identifier: Apache-2.0
"""LabelMe: a folder with one JSON file per image.

Classes are in the order of the alphabet, over all files. Shapes are drawn in their order in the
file, so later ones cover.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets.annotations.contract import (
    Annotations,
    Fault,
    Picture,
    Shape,
    ellipse,
    read_json,
    rectangle,
    ring,
)
from datasets.base import DataError

WITHOUT_AREA = ("point", "points", "line", "linestrip")


def is_labelme(content: object) -> bool:
    """Whether a JSON file looks like LabelMe's."""
    return isinstance(content, dict) and {"shapes", "imagePath"} <= content.keys()


def read_labelme(place: Path) -> Annotations:
    """All files below a folder, or one; DataError where there is none."""
    files = sorted(place.rglob("*.json")) if place.is_dir() else [place]
    if not files:
        raise DataError(f"{place}: holds no *.json")
    found = Annotations()
    for path in files:
        content = read_json(path)
        if not is_labelme(content) or not isinstance(content["shapes"], list):
            found.faults.append(f"{path}: is no file of LabelMe, it has no shapes and imagePath")
            continue
        found.pictures.append(_picture(path, content, found))
    labels = {shape.label for picture in found.pictures for shape in picture.shapes}
    found.classes = sorted(labels)
    return found


def _picture(path: Path, content: Mapping[str, Any], found: Annotations) -> Picture:
    file = str(content["imagePath"]).replace("\\", "/")
    sides = content.get("imageHeight"), content.get("imageWidth")
    known = all(isinstance(side, int) and side > 0 for side in sides)
    size = (int(sides[0]), int(sides[1])) if known else None  # type: ignore[arg-type]
    picture = Picture(file=file, source=path, size=size, near=(path.parent,))
    for number, entry in enumerate(content["shapes"]):
        where = f"shape {number}"
        try:
            if not isinstance(entry, Mapping) or not isinstance(entry.get("label"), str):
                raise Fault("has no label")
            where += f" ({entry['label']})"
            kind = entry.get("shape_type") or "polygon"
            if kind in WITHOUT_AREA:
                found.without_area[kind] += 1
                continue
            picture.shapes.append(_shape(entry, str(kind), where))
        except Fault as error:
            found.faults.append(f"{path}: {where}: {error}")
    return picture


def _shape(entry: Mapping[str, Any], kind: str, where: str) -> Shape:
    shape, points = Shape(label=entry["label"], where=where), entry.get("points")
    if kind == "polygon":
        shape.rings = [ring(points)]
    elif kind in ("rectangle", "mask"):
        (x0, y0), (x1, y1) = _two(points, kind)
        if kind == "rectangle":
            shape.rings = [rectangle(x0, y0, x1, y1)]
        else:
            shape.mask, shape.corner = _mask(entry.get("mask")), (round(x0), round(y0))
    elif kind == "circle":
        (x0, y0), (x1, y1) = _two(points, kind)
        radius = float(np.hypot(x1 - x0, y1 - y0))
        shape.rings = [ellipse(x0, y0, radius, radius)]
    else:
        raise Fault(f"is of the kind {kind!r}, which is not known")
    return shape


def _two(points: object, kind: str) -> list[list[float]]:
    """The two points of a shape that needs no more."""
    if not isinstance(points, Sequence) or len(points) != 2:
        raise Fault(f"a {kind} needs two points")
    return ring([*points, points[0]])[:2].tolist()


def _mask(text: object) -> Any:
    """The pixels of a PNG in base64."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(str(text), validate=True))) as image:
            return np.asarray(image.convert("L")) > 0
    except (OSError, ValueError, SyntaxError) as error:
        raise Fault(f"its mask cannot be read: {error}") from None
