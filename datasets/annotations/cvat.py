# SPDX-License-Identifier: Apache-2.0
"""CVAT: the XML file of "CVAT for images 1.1".

Classes are in the order of the labels of its head; labels without one follow by the alphabet.
Shapes are drawn by their z_order, those of the same in their order in the file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from datasets.annotations.contract import (
    Annotations,
    Fault,
    Picture,
    Shape,
    ellipse,
    rectangle,
    ring,
    turned,
)
from datasets.annotations.rle import decoded
from datasets.base import DataError

WITHOUT_AREA = ("points", "polyline", "skeleton", "cuboid", "tag")


def read_cvat(path: Path) -> Annotations:
    """All images of a file; DataError for one that is not CVAT's."""
    try:
        tree = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as XML: {error}") from error
    if tree.tag != "annotations" or tree.find("image") is None:
        hint = "; export it as CVAT for images" if tree.find("track") is not None else ""
        raise DataError(f"{path}: has no <annotations> with an <image>{hint}")
    found = Annotations()
    for image in tree.iter("image"):
        found.pictures.append(_picture(path, image, found))
    declared = [element.text or "" for element in tree.findall(".//meta//label/name")]
    used = {shape.label for picture in found.pictures for shape in picture.shapes}
    found.classes = list(dict.fromkeys([*declared, *sorted(used)]))
    return found


def _picture(path: Path, image: Element, found: Annotations) -> Picture:
    file = image.get("name") or ""
    sides = image.get("height", ""), image.get("width", "")
    known = all(side.isdecimal() and int(side) > 0 for side in sides)
    size = (int(sides[0]), int(sides[1])) if known else None
    picture = Picture(file=file, source=path, size=size, near=(path.parent,))
    for number, element in enumerate(image):
        label = element.get("label")
        where = f"{element.tag} {number} ({label})"
        if element.tag in WITHOUT_AREA:
            found.without_area[element.tag] += 1
            continue
        try:
            if not label:
                raise Fault("has no label")
            if element.tag not in KINDS:
                raise Fault("is of a kind that is not known")
            shape = Shape(label=label, where=where, order=(_number(element, "z_order", 0.0),))
            KINDS[element.tag](element, shape)
            picture.shapes.append(shape)
        except Fault as error:
            found.faults.append(f"{path}: {file}: {where}: {error}")
    return picture


def _number(element: Element, name: str, default: float | None = None) -> float:
    """A finite number among the attributes; Fault without."""
    text = element.get(name)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise Fault(f"its {name} is {text!r}, a number is wanted")
    return value


def _polygon(element: Element, shape: Shape) -> None:
    corners = (element.get("points") or "").split(";")
    shape.rings = [ring([corner.split(",") for corner in corners])]


def _box(element: Element, shape: Shape) -> None:
    sides = [_number(element, name) for name in ("xtl", "ytl", "xbr", "ybr")]
    shape.rings = [turned(rectangle(*sides), _number(element, "rotation", 0.0))]


def _ellipse(element: Element, shape: Shape) -> None:
    x, y, radius_x, radius_y = (_number(element, name) for name in ("cx", "cy", "rx", "ry"))
    whole = ellipse(x, y, abs(radius_x), abs(radius_y))
    shape.rings = [turned(whole, _number(element, "rotation", 0.0))]


def _mask(element: Element, shape: Shape) -> None:
    """Run lengths by row, of a window of the image."""
    left, top, width, height = (
        int(_number(element, name)) for name in ("left", "top", "width", "height")
    )
    try:
        counts = [int(text) for text in (element.get("rle") or "").split(",")]
    except ValueError:
        raise Fault("its run lengths are not whole numbers") from None
    shape.mask = decoded(counts, height, width, by_column=False)
    shape.corner = (left, top)


KINDS: dict[str, Callable[[Element, Shape], None]] = {
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
}
