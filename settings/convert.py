# SPDX-License-Identifier: Apache-2.0
"""Converters of the text of flags to values; each names what is wrong and what is wanted."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from runtime.limits import brief, name_problem
from settings.declare import Bounds
from settings.ranges import FACTOR, PIXELS

LEAST_PASS, MOST_PASS = 2048, 1 << 40  # pixels: two windows of 32x32


def exact(value: float) -> str:
    """A bound as text; whole numbers with all their digits."""
    return str(value) if isinstance(value, int) else f"{value:g}"


def checked_text(check: Callable[[str], str | None]) -> Callable[[str], str]:
    """A converter of text in which `check` finds nothing wrong."""

    def convert(text: str) -> str:
        if problem := check(text):
            raise argparse.ArgumentTypeError(f"{brief(text)}: {problem}")
        return text

    return convert


def number(kind: type, bounds: Bounds) -> Callable[[str], float]:
    """A converter to `kind`, int or float, of text that stands for a number in `bounds`."""
    low, high, above = bounds
    assert math.isfinite(low) and math.isfinite(high), bounds

    def convert(text: str) -> float:
        try:
            value: float = kind(text)
        except ValueError:
            wanted = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{brief(text)} is not {wanted}") from None
        if not (low < value <= high if above else low <= value <= high):
            wanted = f"{'above' if above else 'at least'} {exact(low)} and at most {exact(high)}"
            raise argparse.ArgumentTypeError(f"{brief(text)} must be {wanted}")
        return value

    return convert


def listed(
    kind: type, bounds: Bounds, count: int | None = None, *, empty: bool = False
) -> Callable[[str], tuple[float, ...]]:
    """A converter of comma-separated values in `bounds`, exactly `count` of them when given.

    `empty`: an empty text means no value at all.
    """
    one = number(kind, bounds)

    def convert(text: str) -> tuple[float, ...]:
        parts = [part for part in text.split(",") if part.strip()]
        try:
            [kind(part) for part in parts]
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{brief(text)} is not a comma list of numbers"
            ) from None
        if empty and not text.strip():
            return ()
        if not parts or (count is not None and len(parts) != count):
            wanted = "at least one value" if count is None else f"{count} values"
            raise argparse.ArgumentTypeError(f"{brief(text)}: {wanted} wanted")
        return tuple(one(part) for part in parts)

    return convert


def file_name(text: str) -> str:
    """A path as it was typed, if a file system can hold such a name."""
    problem = name_problem(text)
    if problem:
        raise argparse.ArgumentTypeError(f"{brief(text)}: {problem}")
    return text


def _pixels(text: str, low: int) -> tuple[int, int]:
    try:
        parts = [int(part) for part in text.split(",")]
    except ValueError:
        parts = []
    if len(parts) not in (1, 2) or any(not low <= part <= PIXELS.high for part in parts):
        least = f"{low} pixel{'s' if low > 1 else ''}"
        raise argparse.ArgumentTypeError(
            f"{brief(text)}: N or HEIGHT,WIDTH of at least {least} and at most {PIXELS.high} wanted"
        )
    return parts[0], parts[-1]


def crop_size(text: str) -> tuple[int, int]:
    """`896` or `1024,2048` (height, width) in pixels."""
    return _pixels(text, 32)


def stride(text: str) -> tuple[int, int]:
    """`768` or `768,512` (down, right) in pixels."""
    return _pixels(text, 1)


def most_pixels(text: str) -> int:
    """`4000000`: of one pass; 0 or `none`: any number."""
    if text.strip().lower() == "none":
        return 0
    try:
        count = int(text)
    except ValueError:
        count = -1
    if count != 0 and not LEAST_PASS <= count <= MOST_PASS:
        raise argparse.ArgumentTypeError(
            f"{brief(text)}: a number of pixels from {LEAST_PASS} to {MOST_PASS}, or none"
        )
    return count


def betas(text: str) -> tuple[float, ...]:
    """Two decays in 0..1, 1 excluded."""
    values = listed(float, Bounds(0, 1), 2)(text)
    if max(values) >= 1:
        raise argparse.ArgumentTypeError(
            f"{brief(text)}: two numbers of at least 0 and below 1 wanted"
        )
    return values


def param_rules(text: str) -> tuple[tuple[str, float, float], ...]:
    """`head:lr=10,norm:decay=0` as (key, lr multiplier, decay multiplier), missing ones 1.

    A rule may set both: `pos:lr=0.5:decay=0`.
    """
    rules = []
    for part in text.split(","):
        key, *settings = (word.strip() for word in part.split(":"))
        values = {"lr": 1.0, "decay": 1.0}
        for setting in settings:
            name, _, value = setting.partition("=")
            try:
                if name not in values or not 0 <= float(value) <= FACTOR.high:
                    raise ValueError
            except ValueError:
                settings = []
                break
            values[name] = float(value)
        if not key or not settings:
            raise argparse.ArgumentTypeError(
                f"{brief(part)!r}: KEY:lr=FACTOR, KEY:decay=FACTOR or both wanted, e.g. "
                "head:lr=10,norm:decay=0"
            )
        rules.append((key, values["lr"], values["decay"]))
    twice = {key for key, _, _ in rules if [rule[0] for rule in rules].count(key) > 1}
    if twice:
        raise argparse.ArgumentTypeError(f"the key {sorted(twice)[0]} stands twice")
    return tuple(rules)


def box(text: str) -> tuple[int, int]:
    """`2048,512`: the long and the short side of a box, in pixels."""
    try:
        sides = tuple(int(part) for part in text.split(","))
    except ValueError:
        sides = ()
    if len(sides) != 2 or not PIXELS.high >= sides[0] >= sides[1] >= 1:
        raise argparse.ArgumentTypeError(
            f"{brief(text)}: LONG,SHORT wanted, in pixels, at most {PIXELS.high}"
        )
    return sides[0], sides[1]
