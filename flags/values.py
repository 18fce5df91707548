# SPDX-License-Identifier: Apache-2.0
"""The parser class, and converters of flag values that name what is wrong."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from config import UserError
from runtime import streams
from runtime.limits import brief, name_problem


class Parser(argparse.ArgumentParser):
    """argparse whose errors are `UserError`s, and that takes `--bs-trn` for `--bs_trn`."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As argparse does; hyphens inside the name of a flag stand for underscores.

        From here on a program can show every argument and file name, in any locale.
        """
        streams.tolerate()
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args([self._spelt(word) for word in words], namespace)

    def _spelt(self, word: str) -> str:
        """`word` with the flag in it as it was declared; what is no flag stays as it is."""
        name, equals, value = word.partition("=")
        declared = "--" + name[2:].replace("-", "_")
        known = self._option_string_actions
        is_other = name.startswith("--") and name not in known and declared in known
        return declared + equals + value if is_other else word

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


COUNT = 10**9  # largest number of images, steps, epochs
SIDE = 16384  # largest side of an image, a crop or a window in pixels: 3 GiB as numbers
FACTOR = 1e6  # largest weight or factor
RATE = 1000.0  # largest learning rate or decay
BATCH = 65536  # largest number of images in one batch of a process
CLASSES = 65535  # largest class number
SCALES = (0.05, 8.0)  # of inference at several scales
EXPONENT = 100.0  # largest exponent of a schedule


def exact(value: float) -> str:
    """A bound as text; whole numbers with all their digits."""
    return str(value) if isinstance(value, int) else f"{value:g}"


def number(kind: type, low: float, high: float, open_low: bool = False) -> Callable[[str], float]:
    """A converter with a finite range, inclusive unless `open_low`."""
    assert math.isfinite(low) and math.isfinite(high), (low, high)

    def convert(text: str) -> float:
        try:
            value: float = kind(text)
        except ValueError:
            name = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{brief(text)} is not a {name}") from None
        inside = low < value <= high if open_low else low <= value <= high
        if not inside:
            bounds = f"{'above' if open_low else 'at least'} {exact(low)}"
            bounds += f" and at most {exact(high)}"
            raise argparse.ArgumentTypeError(f"{brief(text)} must be {bounds}")
        return value

    return convert


def listed(
    kind: type,
    count: int | None = None,
    *,
    low: float,
    high: float,
    open_low: bool = False,
    empty: bool = False,
) -> Callable[[str], tuple[float, ...]]:
    """A converter of comma-separated values in a finite range, exactly `count` of them when given.

    `empty`: an empty text means no value at all.
    """
    one = number(kind, low, high, open_low)

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


def whole_numbers(*counts: int, low: int, high: int) -> type[argparse.Action]:
    """An action of `nargs="+"` that takes `1 1 0` and `1,1,0` alike: so many numbers in a range."""
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
                    f"got {brief(' '.join(parts))}"
                )
            if not all(low <= part <= high for part in numbers):
                parser.error(
                    f"argument {option_string}: {brief(' '.join(parts))}: whole numbers from "
                    f"{low} to {high} wanted"
                )
            setattr(namespace, self.dest, numbers)

    return Collect


def _pixels(text: str, low: int) -> tuple[int, int]:
    try:
        parts = [int(part) for part in text.split(",")]
    except ValueError:
        parts = []
    if len(parts) not in (1, 2) or any(not low <= part <= SIDE for part in parts):
        least = f"{low} pixel{'s' if low > 1 else ''}"
        raise argparse.ArgumentTypeError(
            f"{brief(text)}: N or HEIGHT,WIDTH of at least {least} and at most {SIDE} wanted"
        )
    return parts[0], parts[-1]


def crop_size(text: str) -> tuple[int, int]:
    """`896` or `1024,2048` (height, width) in pixels."""
    return _pixels(text, 32)


def stride(text: str) -> tuple[int, int]:
    """`768` or `768,512` (down, right) in pixels."""
    return _pixels(text, 1)


def betas(text: str) -> tuple[float, ...]:
    """Two decays in 0..1, 1 excluded."""
    values = listed(float, 2, low=0, high=1)(text)
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
                if name not in values or not 0 <= float(value) <= FACTOR:
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
    if len(sides) != 2 or not SIDE >= sides[0] >= sides[1] >= 1:
        raise argparse.ArgumentTypeError(
            f"{brief(text)}: LONG,SHORT wanted, in pixels, at most {SIDE}"
        )
    return sides[0], sides[1]


positive_int = number(int, 1, COUNT)
non_negative_int = number(int, 0, COUNT)
non_negative = number(float, 0, FACTOR)
positive = number(float, 0, FACTOR, open_low=True)
pixels = number(int, 1, SIDE)
batch_size = number(int, 1, BATCH)
rate = number(float, 0, RATE)
positive_rate = number(float, 0, RATE, open_low=True)
exponent = number(float, 0, EXPONENT)
positive_exponent = number(float, 0, EXPONENT, open_low=True)
inference_scale = number(float, *SCALES)
fraction = number(float, 0, 1)
share = number(float, 0, 1, open_low=True)
