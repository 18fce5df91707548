# SPDX-License-Identifier: Apache-2.0
"""How files are stored, for `tools.check`: orientation, bits of images and of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from datasets.decode import Picture
from datasets.headers import read_header
from datasets.ids import Depths
from datasets.spec import Item
from runtime.limits import counted

DARK = 64  # an image that stays below after scaling uses at most 14 of 16 bits


@dataclass(frozen=True)
class ImageForm:
    """Orientation 1..8 of an image; its largest value, if 16 bits were scaled by their type."""

    orientation: int
    brightest: int | None


class Found(Protocol):
    """What these checks read of a finding."""

    item: Item
    form: ImageForm | None
    label_bits: int | None


def image_form(item: Item, image: Picture) -> ImageForm:
    """How the image of `item` is stored; `image`: its pixels as read."""
    header = read_header(item.image, "image")
    is_scaled = header.kind == "uint" and header.bits == 16 and item.levels is None
    return ImageForm(header.orientation, int(image.max()) if is_scaled else None)


def format_notes(name: str, findings: Sequence[Found]) -> list[str]:
    """What decides how the files of the split `name` are read."""
    lines = []
    turned = [found.item for found in findings if found.form and found.form.orientation != 1]
    if turned:
        is_obeyed = any(item.turned for item in turned)
        rule = "they are turned; their labels must be too" if is_obeyed else "it is ignored"
        carry = "image carries" if len(turned) == 1 else "images carry"
        lines.append(
            f"{name}: {len(turned)} {carry} an EXIF orientation ({rule}), "
            f"the first is {turned[0].image}"
        )
    for bits, values in ((1, "0 and 1"), (2, "0 to 3"), (4, "0 to 15")):
        low = [found.item.label for found in findings if found.label_bits == bits]
        if low:
            are = "label is" if len(low) == 1 else "labels are"
            lines.append(
                f"{name}: {len(low)} {are} {bits} bit, read as {values}, the first is {low[0]}"
            )
    return lines + _dark_note(name, findings)


def _dark_note(name: str, findings: Sequence[Found]) -> list[str]:
    """One line if no image of 16 bits uses the upper two of them."""
    values = [found.form.brightest for found in findings if found.form]
    deep = [value for value in values if value is not None]
    if not deep or max(deep) >= DARK:
        return []
    most = 256 * (1 << max(deep).bit_length()) - 1
    return [
        f"{name}: 16 bits but no value above {most} in {counted(len(deep), 'image')}, which is "
        f"nearly black; if that is the range of the sensor, say range: [0, {most}] in the YAML of "
        "a custom set"
    ]


def mixed_labels(findings: Sequence[Found]) -> list[str]:
    """One line if labels of few bits are mixed with others, in any split."""
    depths = Depths()
    for found in findings:
        if found.item.label is not None and found.label_bits is not None:
            depths.add(Depths.of(found.item.label, found.label_bits))
    mixed = depths.mixed_text()
    return [mixed] if mixed else []
