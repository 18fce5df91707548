# SPDX-License-Identifier: Apache-2.0
"""Checks of values in files: each says in one line what is wrong with a value, or nothing.

problem = many(whole(0, 255), 3)(color, "palette.7")
# "entry palette.7.1 is 300, a whole number 0..255 wanted"
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Mapping

import torch

from runtime.limits import brief

COUNTER = "num_batches_tracked"  # absent from files of old torch versions; not a weight
Check = Callable[[object, str], str | None]


def is_whole(value: object) -> bool:
    """Whether `value` is an int; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def wanted(value: object, where: str, what: str) -> str:
    """The line about an entry that is not `what`."""
    plain = value is None or isinstance(value, str | int | float)
    shown = brief(repr(value)) if plain else f"a {type(value).__name__}"
    if isinstance(value, torch.Tensor):
        shown = f"a tensor {tuple(value.shape)} of {value.dtype}"
    return f"entry {where} is {shown}, {what} wanted"


def text(value: object, where: str) -> str | None:
    """Text of at least one letter."""
    return None if isinstance(value, str) and value else wanted(value, where, "text")


def any_text(value: object, where: str) -> str | None:
    """Text, which may be empty."""
    return None if isinstance(value, str) else wanted(value, where, "text")


def flag(value: object, where: str) -> str | None:
    """True or False."""
    return None if isinstance(value, bool) else wanted(value, where, "true or false")


def score(value: object, where: str) -> str | None:
    """Any number, also one that is none: a score may have been NaN."""
    is_number = is_whole(value) or isinstance(value, float)
    return None if is_number else wanted(value, where, "a number")


def whole(low: int, high: int) -> Check:
    """A whole number of a range."""

    def check(value: object, where: str) -> str | None:
        inside = is_whole(value) and low <= typing.cast(int, value) <= high
        return None if inside else wanted(value, where, f"a whole number {low}..{high}")

    return check


def real(low: float, high: float) -> Check:
    """A finite number of a range."""

    def check(value: object, where: str) -> str | None:
        is_number = is_whole(value) or isinstance(value, float)
        inside = is_number and low <= typing.cast(float, value) <= high
        return None if inside else wanted(value, where, f"a number {low:g}..{high:g}")

    return check


def one_of(*known: object) -> Check:
    """One of some values."""

    def check(value: object, where: str) -> str | None:
        is_known = any(type(value) is type(each) and value == each for each in known)
        return None if is_known else wanted(value, where, " or ".join(map(repr, known)))

    return check


def either(first: Check, second: Check) -> Check:
    """What passes one of two checks; the line is that of the first."""

    def check(value: object, where: str) -> str | None:
        problem = first(value, where)
        return None if problem is None or second(value, where) is None else problem

    return check


def many(each: Check, count: int | None = None, *, least: int = 0) -> Check:
    """A list of values, so many of them."""

    def check(value: object, where: str) -> str | None:
        size = "" if count is None else f" of {count}"
        if not isinstance(value, list | tuple) or (count is not None and len(value) != count):
            return wanted(value, where, f"a list{size}")
        if len(value) < least:
            return f"entry {where} is empty"
        problems = (each(item, f"{where}.{index}") for index, item in enumerate(value))
        return next(filter(None, problems), None)

    return check


def entries(checks: Mapping[str, Check], required: typing.Iterable[str] = ()) -> Check:
    """A dictionary whose known entries pass their checks; `required` must be there."""

    def check(value: object, where: str) -> str | None:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            return wanted(value, where, "a dictionary of names")
        for name in required:
            if name not in value:
                return f"entry {where}.{name} is missing"
        problems = (
            checks[key](item, f"{where}.{key}") for key, item in value.items() if key in checks
        )
        return next(filter(None, problems), None)

    return check


def plain(value: object, where: str, depth: int = 0) -> str | None:
    """Nothing, text, numbers, true or false, or lists of them."""
    if isinstance(value, list | tuple) and depth < 4:
        problems = (plain(item, f"{where}.{i}", depth + 1) for i, item in enumerate(value))
        return next(filter(None, problems), None)
    is_plain = value is None or isinstance(value, str | int | float)
    return None if is_plain else wanted(value, where, "text, a number or a list of them")


def weights(value: object, where: str) -> str | None:
    """A dictionary of names and dense tensors, not empty."""
    if not isinstance(value, dict):
        return wanted(value, where, "a dictionary of weights")
    if not value:
        return f"entry {where} is empty: the file holds no weights"
    for name, item in value.items():
        if not isinstance(name, str):
            return f"entry {where} has the key {brief(repr(name))}; names of weights are text"
        if not isinstance(item, torch.Tensor) or item.layout != torch.strided:
            return wanted(item, f"{where}.{name}", "a tensor")
    return None


def not_finite(state: Mapping[str, torch.Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinite numbers, None if none does.

    A sum is finite only if all numbers are; it costs a tenth of a look at each. Large numbers may
    have an infinite sum and then are looked at.
    """
    for name, value in state.items():
        if not (value.is_floating_point() or value.is_complex()):
            continue
        if not bool(torch.isfinite(value.sum())) and not bool(torch.isfinite(value).all()):
            return name
    return None


def not_a_weight(state: Mapping[str, torch.Tensor]) -> str | None:
    """What is wrong with the first entry that no layer can hold, None if there is none.

    Layers count their batches in single numbers, and nothing else in them is one.
    """
    for name, value in state.items():
        if not value.ndim and not name.endswith(COUNTER):
            return f"{name} is a single number, no weight of a layer"
        if value.is_complex():
            return f"{name} holds complex numbers"
    return None


def typed(hint: object) -> Check:
    """A value of an annotated type of `config.ModelConfig`; lists stand for tuples."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return either(typed(arguments[0]), one_of(None))
    if origin is tuple:
        count = None if arguments[-1] is Ellipsis else len(arguments)
        return many(typed(arguments[0]), count)
    simple: dict[object, Check] = {
        str: any_text,
        bool: flag,
        int: whole(-(2**31), 2**31),
        float: real(-math.inf, math.inf),
    }
    return simple[hint]
