# SPDX-License-Identifier: Apache-2.0
"""Settings of a prediction from Python: keywords named like the flags of `eval.py`.

    read_keywords({"snapshot": "best.pth", "n_scales": (0.5, 1.0), "do_flip": True})

They pass the same converters, ranges and checks as a command line, without one.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping, Sequence
from numbers import Real

from runtime.errors import UserError, near
from settings.catalogue import Setting, catalogue
from settings.parser import CommandLine, converter
from settings.resolve import read_settings, resolve
from settings.sources import value_problem
from settings.tree import Settings

GROUPS = ("MODEL", "inference")  # all of whose flags say how a network is built and asked
OTHERS = (
    "allow_partial", "arch", "channels_last", "compile", "dataset", "map_crop_val",
    "no_pos_dataset", "pre_size", "precision", "scf", "set", "size_divisor", "test_scale",
)  # fmt: skip
# Flags about the images of a data set, and those that keywords of their own stand for.
NOT_HERE = frozenset(
    {"eval", "eval_folder", "no_metrics", "pretrained", "split_count", "split_index"}
)
WHOLE_FOLDER = {"eval": "folder", "eval_folder": "."}  # predictions without labels, no set


@functools.cache
def prediction_options() -> frozenset[str]:
    """The names of all flags that say something about a prediction from Python."""
    grouped = {
        name
        for name, each in catalogue().items()
        if each.group in GROUPS and each.declared.flags and each.declared.help
    }
    return frozenset((grouped | set(OTHERS)) - NOT_HERE)


def read_keywords(source: Mapping[str, str], options: Mapping[str, object]) -> Settings:
    """The checked settings of predictions with `options`; an option that is None is left out.

    source: {"snapshot": FILE} or {"from_run": DIR}. UserError for a name that is no option of a
    prediction, a value of another type or outside its range, and options without effect.
    """
    chosen = {k: v for k, v in options.items() if v is not None and v is not False}
    values = {name: _value(name, value) for name, value in chosen.items()}
    return resolve(CommandLine(values={**WHOLE_FOLDER, **source, **values}))


def folder_settings(shared: Sequence[str], prog: str) -> Settings:
    """The settings of the flags of a program that predicts no folder, as if it did.

    UserError for wrong flags, and for those of the folder itself.
    """
    typed = {word.partition("=")[0].lstrip("-").replace("-", "_") for word in shared}
    for name in sorted(typed & set(WHOLE_FOLDER)):
        raise UserError(f"--{name} has no effect on {prog}; leave it out")
    words = [word for pair in WHOLE_FOLDER.items() for word in (f"--{pair[0]}", pair[1])]
    return read_settings([*shared, *words], prog=prog)


def _value(name: str, value: object) -> object:
    """`value` as the type of the setting `name`."""
    if name not in prediction_options():
        raise UserError(
            f"{name}= is no option of a prediction{near(name, sorted(prediction_options()))}"
        )
    setting = catalogue()[name]
    if setting.base is bool:
        if value is not True:
            raise UserError(f"{name}={value!r}: True or False wanted")
        return True
    if setting.declared.repeated:
        return tuple([value] if isinstance(value, str) else _items(name, value))
    found = _converted(setting, value)
    if problem := value_problem(setting, found):
        raise UserError(f"{name}={value!r}: {problem}")
    return found


def _items(name: str, value: object) -> list[str]:
    """The texts of an option that may be given several times."""
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise UserError(f"{name}={value!r}: a list of texts wanted")
    return list(value)


def _converted(setting: Setting, value: object) -> object:
    """`value` through the converter of the flag, which takes text: `(0.5, 1)` as `0.5,1`."""
    parts = value if isinstance(value, list | tuple) else (value,)
    if any(isinstance(part, bool) or not isinstance(part, str | Real) for part in parts):
        raise UserError(f"{setting.name}={value!r}: {_wanted(setting)} wanted")
    text = ",".join(map(str, parts))
    if setting.declared.choices:
        return text
    try:
        return converter(setting)(text)
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{setting.name}={value!r}: {error}") from None


def _wanted(setting: Setting) -> str:
    """What a value looks like, in words."""
    if setting.base in (int, float):
        return "a number"
    return "a text" if setting.base is str else "numbers such as (1, 2)"
