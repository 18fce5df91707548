# SPDX-License-Identifier: Apache-2.0
"""The keys of a custom YAML that say how files are read:

    colors: {"#0050a0": water, "#8c8c8c": quay, "#000000": ignore}   # labels hold colours
    exif: ignore        # images as they are stored, whatever orientation they carry
    range: [0, 4095]    # black and white of images deeper than 8 bits

A colour is "#rrggbb" or "r, g, b" and stands for a class, by name or number (with `ids:` for a
value of that map), or for `ignore`. `water: "#0050a0"` and `water: ["#0050a0", [0, 80, 161]]` say
the same the other way round, and a list gives one colour per class.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

from datasets.headers import DataError
from datasets.spec import Color
from runtime.errors import near

IGNORED = "ignore"
HEX_COLOR = re.compile(r"#([0-9a-fA-F]{6})")
NUMBERS = re.compile(r"[\[(]?\s*(\d{1,3})\s*[, ]\s*(\d{1,3})\s*[, ]\s*(\d{1,3})\s*[\])]?")

Fail = Callable[[str, str], DataError]


def color_of(value: object) -> Color | None:
    """A colour as people write it; None for anything else."""
    if isinstance(value, str):
        if match := HEX_COLOR.fullmatch(value.strip()):
            number = int(match[1], 16)
            return number >> 16, number >> 8 & 255, number & 255
        match = NUMBERS.fullmatch(value.strip())
        value = None if match is None else [int(part) for part in match.groups()]
    if not isinstance(value, list) or len(value) != 3:
        return None
    if not all(type(part) is int and 0 <= part <= 255 for part in value):
        return None
    return value[0], value[1], value[2]


def color_map(
    entry: object, names: Sequence[str], ids: Mapping[int, int], ignore: int, fail: Fail
) -> dict[Color, int]:
    """Colour -> raw id of `colors:`; `ids` maps raw ids to train ids.

    Raises what `fail(key, text)` makes for entries that are not a colour or not a class, a colour
    that occurs twice, and a class without a colour.
    """
    found: dict[Color, int] = {}
    for color, owner, where in _pairs(entry, names, fail):
        raw = _raw_id(owner, names, ids, ignore, where, fail)
        if found.setdefault(color, raw) != raw:
            raise fail(where, f"gives #{_hex(color)} to two classes")
    seen = {ids[raw] for raw in found.values()}
    missing = [name for number, name in enumerate(names) if number not in seen]
    if missing:
        raise fail("colors", f"has no colour of {', '.join(missing)}")
    return found


def _hex(color: Color) -> str:
    return "".join(f"{part:02x}" for part in color)


def _pairs(entry: object, names: Sequence[str], fail: Fail) -> list[tuple[Color, object, str]]:
    """(colour, class, key) of every way to write the map."""
    pairs: list[tuple[Color, object, str]] = []
    if isinstance(entry, list):
        if len(entry) != len(names):
            raise fail("colors", f"must be {len(names)} colours, one per class, or a mapping")
        entry = dict(zip(names, entry, strict=True))
    if not isinstance(entry, Mapping) or not entry:
        raise fail("colors", f"must map colours to classes, got {entry!r}")
    for key, value in entry.items():
        where = f"colors: {key}"
        if key not in names and (color := color_of(key)) is not None:
            pairs.append((color, value, where))
            continue
        several = isinstance(value, list) and color_of(value) is None
        for one in value if several else [value]:
            color = color_of(one)
            if color is None:
                raise fail(where, f'must be a colour "#0050a0" or [0, 80, 160], got {one!r}')
            pairs.append((color, key, where))
    return pairs


def _raw_id(
    owner: object, names: Sequence[str], ids: Mapping[int, int], ignore: int, where: str, fail: Fail
) -> int:
    """The raw id that a class name, a number or "ignore" stands for."""
    first: dict[int, int] = {}
    for raw, train_id in ids.items():
        first.setdefault(train_id, raw)
    if isinstance(owner, str):
        if owner in names:
            return first[names.index(owner)]
        if owner == IGNORED and ignore in first:
            return first[ignore]
        known = (*names, IGNORED)
        raise fail(where, f"is not a class: {owner!r}{near(owner, known)}")
    if isinstance(owner, bool) or not isinstance(owner, int) or owner not in ids:
        listed = ", ".join(str(raw) for raw in list(ids)[:10])
        raise fail(where, f"must be a class or one of the ids {listed}, got {owner!r}")
    return owner


def value_range(value: object, fail: Fail) -> tuple[float, float] | None:
    """`range:` as (black, white); None if it is not given."""
    if value is None:
        return None
    numbers = value if isinstance(value, list) else []
    is_plain = all(type(part) in (int, float) and math.isfinite(part) for part in numbers)
    if len(numbers) != 2 or not is_plain or not numbers[0] < numbers[1]:
        raise fail("range", f"must be [low, high], the values of black and white, got {value!r}")
    return float(numbers[0]), float(numbers[1])


def is_turned(value: object, fail: Fail) -> bool:
    """`exif:` is "apply" (also if it is not given) or "ignore"."""
    if value not in (None, "apply", IGNORED):
        raise fail("exif", f"must be apply or ignore, got {value!r}")
    return value != IGNORED
