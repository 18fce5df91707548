# SPDX-License-Identifier: Apache-2.0
"""The parser class, and converters of flag values that name what is wrong."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NoReturn

from config import UserError


class Parser(argparse.ArgumentParser):
    """argparse whose errors are `UserError`s that name the nearest flag."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def number(kind: type, low: float, high: float, open_low: bool = False) -> Callable[[str], float]:
    """A converter with a range, inclusive unless `open_low`."""

    def convert(text: str) -> float:
        try:
            value: float = kind(text)
        except ValueError:
            name = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{text} is not a {name}") from None
        inside = low < value <= high if open_low else low <= value <= high
        if not inside:
            bounds = f"{'above' if open_low else 'at least'} {low:g}"
            bounds += "" if math.isinf(high) else f" and at most {high:g}"
            raise argparse.ArgumentTypeError(f"{text} must be {bounds}")
        return value

    return convert


def listed(
    kind: type, count: int | None = None, low: float = -math.inf
) -> Callable[[str], tuple[float, ...]]:
    """A converter of comma-separated values from `low` on, exactly `count` of them when given."""

    def convert(text: str) -> tuple[float, ...]:
        try:
            values = tuple(kind(part) for part in text.split(",") if part.strip())
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text} is not a comma list of numbers") from None
        if not values or (count is not None and len(values) != count):
            wanted = "at least one value" if count is None else f"{count} values"
            raise argparse.ArgumentTypeError(f"{text}: {wanted} wanted")
        if min(values) < low:
            raise argparse.ArgumentTypeError(f"{text}: {min(values)} is below {low:g}")
        return values

    return convert


def whole_numbers(*counts: int) -> type[argparse.Action]:
    """An action of `nargs="+"` that takes `1 1 0` and `1,1,0` alike: so many numbers."""
    wanted = " or ".join(map(str, counts))

    class Collect(argparse.Action):
        """Stores the tuple."""

        def __call__(
            self,
            parser: argparse.ArgumentParser,
            namespace: argparse.Namespace,
            values: object,
            option_string: str | None = None,
        ) -> None:
            assert isinstance(values, list)
            parts = [part for text in values for part in text.replace(",", " ").split()]
            try:
                numbers = tuple(int(part) for part in parts)
            except ValueError:
                numbers = ()
            if len(numbers) not in counts:
                parser.error(
                    f"argument {option_string}: {wanted} whole numbers wanted, "
                    f"got {' '.join(parts)}"
                )
            setattr(namespace, self.dest, numbers)

    return Collect


def crop_size(text: str) -> tuple[int, int]:
    """`896` or `1024,2048` (height, width) in pixels."""
    try:
        parts = [int(part) for part in text.split(",")]
    except ValueError:
        parts = []
    if len(parts) not in (1, 2) or any(part < 32 for part in parts):
        raise argparse.ArgumentTypeError(f"{text}: N or HEIGHT,WIDTH of at least 32 pixels wanted")
    return parts[0], parts[-1]


positive_int = number(int, 1, math.inf)
non_negative_int = number(int, 0, math.inf)
non_negative = number(float, 0, math.inf)
positive = number(float, 0, math.inf, open_low=True)
fraction = number(float, 0, 1)
