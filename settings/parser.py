# SPDX-License-Identifier: Apache-2.0
"""The command line, made from the catalogue of settings; no `argparse.Namespace` leaves it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from runtime import streams
from runtime.errors import UserError, near
from runtime.limits import brief
from settings.catalogue import Setting, catalogue
from settings.convert import checked_text, file_name, listed, number
from settings.declare import Bounds
from settings.published import WITHOUT_EFFECT

DESCRIPTION = "The command line of `train.py` and `eval.py`: every flag with type, range and help. "
DESCRIPTION += "`--bs-trn` is the same as `--bs_trn`."


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


def _words(counts: Sequence[int], bounds: Bounds) -> type[argparse.Action]:
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
            if not all(bounds.low <= part <= bounds.high for part in numbers):
                parser.error(
                    f"argument {option_string}: {brief(' '.join(parts))}: whole numbers from "
                    f"{bounds.low} to {bounds.high} wanted"
                )
            setattr(namespace, self.dest, numbers)

    return Collect


def converter(setting: Setting) -> Callable[[str], object]:
    """Text of the command line to the value of a setting; argparse.ArgumentTypeError if wrong."""
    declared = setting.declared
    if declared.parse is not None:
        return declared.parse
    if declared.check is not None:
        return checked_text(declared.check)
    if declared.path:
        return file_name
    if declared.bounds is None:
        return str
    if setting.base in (int, float):
        return number(setting.base, declared.bounds)
    kind, count = setting.parts
    return listed(kind, declared.bounds, count, empty=declared.empty)


def _add(add: Callable[..., object], setting: Setting) -> None:
    """Add the flag of a setting, without a default: what was not typed is not there."""
    declared = setting.declared
    facts: dict[str, Any] = {"dest": setting.name, "help": declared.help or argparse.SUPPRESS}
    facts["default"] = argparse.SUPPRESS
    if setting.base is bool:
        add(*declared.flags, action="store_true", **facts)
        return
    if declared.metavar is not None:
        facts["metavar"] = declared.metavar
    if isinstance(declared.metavar, tuple):
        assert declared.bounds is not None, setting.name
        one = number(setting.parts[0], declared.bounds)
        add(*declared.flags, nargs=len(declared.metavar), type=one, **facts)
    elif declared.words:
        _, count = setting.parts
        counts = declared.counts or (count or 1,)
        assert declared.bounds is not None, setting.name
        add(*declared.flags, nargs="+", action=_words(counts, declared.bounds), **facts)
    elif declared.repeated:
        add(*declared.flags, action="append", **facts)
    elif declared.choices:
        add(*declared.flags, choices=declared.choices, **facts)
    else:
        add(*declared.flags, type=converter(setting), **facts)


def build_parser(prog: str = "train.py") -> Parser:
    """The parser, one group of flags per group of settings; flags without effect are hidden."""
    parser = Parser(prog=prog, allow_abbrev=False, description=DESCRIPTION)
    groups: dict[str, argparse._ArgumentGroup] = {}
    for setting in catalogue().values():
        if not setting.declared.flags:
            continue
        if setting.title not in groups:
            groups[setting.title] = parser.add_argument_group(setting.title)
        _add(groups[setting.title].add_argument, setting)
    for name in WITHOUT_EFFECT:
        hidden = argparse.SUPPRESS
        parser.add_argument(f"--{name}", nargs="?", const=True, help=hidden, default=hidden)
    return parser


@dataclass(frozen=True, kw_only=True)
class CommandLine:
    """What was typed: the values of flags by their names, and the flags without effect."""

    values: dict[str, object]
    ignored: tuple[str, ...] = ()

    @property
    def given(self) -> frozenset[str]:
        """The names of all flags that were typed."""
        return frozenset(self.values) | frozenset(self.ignored)


def read_flags(argv: Sequence[str] | None = None, prog: str = "train.py") -> CommandLine:
    """What `argv` (default: that of the program) says; UserError for what no flag can be."""
    parser = build_parser(prog)
    found, unknown = parser.parse_known_args(argv)
    if unknown:
        flag = unknown[0].split("=")[0]
        shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
        names = [option for action in shown for option in action.option_strings]
        alike = near("--" + flag.lstrip("-").replace("-", "_"), names, cutoff=0.76)
        raise UserError(f"unknown argument {unknown[0]}{alike}")
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(found).items()
    }
    ignored = sorted(values.keys() & WITHOUT_EFFECT.keys())
    known = {name: value for name, value in values.items() if name not in WITHOUT_EFFECT}
    return CommandLine(values=known, ignored=tuple(ignored))
