# SPDX-License-Identifier: Apache-2.0
"""Does the program of recorded numbers notice damage? Change one entry at a time and look.

    python -m tests.parity.damage tests/parity/fixtures/unept/dt_offset.json
    python -m tests.parity.damage --per_kind 1 tests/parity/fixtures/*

Every array is changed at one place and as a whole, every recorded answer of the header by a
little. A copy that still passes is printed. Exit code 1 if there is any. Remarks are no answers,
and neither are settings: a threshold of 0.009 in place of 0.008 may well mean the same radius.
"""

from __future__ import annotations

import copy
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity.__main__ import files_of
from tests.parity.core import find_check, judge
from tests.parity.fixture import Fixture, leaves, load_fixture

# Last parts of paths that choose what is computed and are no answer.
SETTINGS = frozenset(
    (
        *("height", "width", "image_height", "image_width", "image", "input", "crop", "crop_size"),
        *("crop_width", "stride", "img_scale_w_h", "seed", "numpy_seed", "python_random_seed"),
        *("num_classes", "classes", "ignore", "boost", "scale", "n", "c", "h", "w", "bound_th"),
        *("weight_decay", "amsgrad", "max_iters", "max_epoch", "warmup_ratio", "overlap"),
        *("centroids_per_class", "num_images", "images", "exp", "lr", "max_iter", "iter", "gain"),
        *("label_seed", "label_seeds", "query_grid", "num_queries", "crop_top_left", "tile"),
        *(
            "pad_each_side",
            "input_is",
            "class_uniform_pct",
            "config",
            "custom_keys",
            "decay_mult",
            "rows",
        ),
        *("wt_bound", "strict_classes", "logits_gain", "pos_rfactor", "kept", "official_config"),
        "positions.scaled",  # the size a crop is cut from; two pixels more give the same crop
    )
)
# Arrays of which one pixel may be of no effect: inputs, targets of a loss.
INPUTS = re.compile(r"\.in\.|^(label|distance|angle)$")
NAMING = frozenset(("arrays",))  # which arrays belong to a case, with words on how they are packed
GREY_STEPS = 7  # more than any tolerance of an image
PIXELS = 25  # more than may change their class where two scores are as good as equal
SMALL, SHARE = 1e-3, 0.05


@dataclass(frozen=True)
class Damage:
    """A changed copy, and the entry that was changed."""

    entry: str
    fixture: Fixture


def is_setting(path: str) -> bool:
    """Whether an entry, or the group it stands in, is a setting."""
    parts = path.split(".")
    names = {parts[-1], parts[-2], f"{parts[0]}.{parts[-1]}"} if len(parts) > 1 else set()
    return not names.isdisjoint(SETTINGS)


def changed(value: Any, draw: random.Random, inside: bool = False, step: int = 1) -> Any:
    """A leaf with another value: a number by 5 %, an element of a list, a flag turned round.

    Of a list of lists the last column changes, where the answers of a table stand. step: what is
    added to whole numbers.
    """
    if isinstance(value, list):
        if not value:
            return [1]
        place = len(value) - 1 if inside else draw.randrange(len(value))
        return [
            changed(item, draw, True, step) if i == place else item for i, item in enumerate(value)
        ]
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return f"{value}x"
    if value is None:
        return 1
    if isinstance(value, int):
        return value + step
    return value + max(SHARE * abs(value), SMALL)


def changed_array(array: np.ndarray, places: Any) -> np.ndarray:
    """A copy of an array that differs at `places`."""
    found = array.copy()
    if array.dtype.kind == "b":
        found[places] = ~array[places]
    elif array.dtype.kind in "iu":
        wide = array[places].astype(np.int64)
        top = np.iinfo(array.dtype).max
        found[places] = np.where(wide + GREY_STEPS > top, wide - GREY_STEPS, wide + GREY_STEPS)
    else:
        found[places] = array[places] + SMALL + 2 * SHARE * np.abs(array).max(initial=0)
    return found


def pattern_of(path: str) -> str:
    """Entries that are alike: those of one part of the header that have the same last name."""
    parts = re.sub(r"\d+", "0", path).split(".")
    return f"{parts[0]}.{parts[-1]}" if parts[0] != "manifest" else "manifest"


def put(header: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of a header with another value at a path of `leaves`."""
    found: Any = copy.deepcopy(header)
    place, rest = found, path
    while True:
        keys = range(len(place)) if isinstance(place, list) else list(place)
        key = max(
            (k for k in keys if rest == str(k) or rest.startswith(f"{k}.")),
            key=lambda k: len(str(k)),
        )
        rest = rest[len(str(key)) + 1 :]
        if not rest:
            place[key] = value
            result: dict[str, Any] = found
            return result
        place = place[key]


def damaged(fixture: Fixture, seed: int = 0, per_kind: int = 0) -> Iterator[Damage]:
    """Changed copies; of entries that are alike at most `per_kind`, all with 0."""
    draw, check = random.Random(seed), find_check(fixture)
    header, arrays = fixture.header.peek(), dict(fixture.arrays)
    groups: dict[str, list[tuple[str, Any]]] = {}
    for path, value in leaves(header):
        described = path.split(".")[-1] in NAMING or check.is_remark(path, value)
        if value != {} and not is_setting(path) and not described:
            groups.setdefault(pattern_of(path), []).append((path, value))
    for group in groups.values():
        chosen = draw.sample(group, min(per_kind, len(group))) if per_kind else group
        for path, value in chosen:
            step = PIXELS if path.startswith("argmax_histogram.") else 1
            content = put(header, path, changed(value, draw, step=step))
            yield Damage(path, Fixture.of(fixture.name, content, arrays, fixture.folder))
    names = sorted(arrays)
    for name in draw.sample(names, min(2 * per_kind, len(names))) if per_kind else names:
        array = arrays[name]
        one = tuple(draw.randrange(size) for size in array.shape)
        for title, places in (("one element", one), ("all", ...)):
            if array.size and not (title == "one element" and INPUTS.search(name)):
                content = arrays | {name: changed_array(array, places)}
                copied = Fixture.of(fixture.name, copy.deepcopy(header), content, fixture.folder)
                yield Damage(f"array {name}, {title}", copied)


def survivors(fixture: Fixture, seed: int = 0, per_kind: int = 0) -> list[str]:
    """The entries whose change was not noticed."""
    return [
        damage.entry
        for damage in damaged(fixture, seed, per_kind)
        if judge(damage.fixture).word == "PASS"
    ]


def main(arguments: list[str]) -> int:
    """Damage all fixtures of files and folders; the exit code."""
    per_kind = 0
    if arguments[:1] == ["--per_kind"]:
        per_kind, arguments = int(arguments[1]), arguments[2:]
    found = 0
    for path in (path for argument in arguments for path in files_of(Path(argument))):
        entries = survivors(load_fixture(path), per_kind=per_kind)
        found += len(entries)
        print(f"{'MISSED' if entries else 'NOTICED'} {path.stem} {', '.join(entries)}", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
