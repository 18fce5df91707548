# SPDX-License-Identifier: Apache-2.0
"""The command line of the programs that go through the label files of a data set."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass

from datasets import table
from settings import CommandLine, Parser, Settings, catalogue
from settings.convert import number
from settings.ranges import POSITIVE_COUNT
from settings.resolve import unchecked

SPLITS = ("train", "val", "test")
ROOT_FLAGS = tuple(root.flag for root in table.roots() if root.flag)
SETTINGS = ("dataset", "cv", "city_mode", "set")  # flags that are settings, besides the roots


@dataclass(frozen=True, kw_only=True)
class DatasetRequest:
    """What such a program is asked for: settings that name a data set, splits, files at a time.

    splits: None for all that there are. more: the program's own flags by name.
    """

    settings: Settings
    splits: tuple[str, ...] | None
    workers: int
    more: dict[str, object]


def dataset_parser(
    module: str, description: str, splits: tuple[str, ...] | None, more: Sequence[str] = ()
) -> Parser:
    """The flags that the listings of data sets read.

    splits: what no --split means, None for all that there are. more: names of sets that the program
    accepts besides those of images and label maps.
    """
    parser = Parser(prog=f"python -m {module}", description=description, allow_abbrev=False)
    without = ",".join(splits) if splits else "all"
    add = parser.add_argument
    helps = {name: each.declared.help for name, each in catalogue().items()}
    known = sorted([*table.paired(), *more])
    add("--dataset", required=True, choices=known, help=helps["dataset"])
    add(
        "--split",
        type=_split_names,
        default=splits,
        help=f"some of {','.join(SPLITS)}; {without} without this flag",
    )
    workers = number(int, POSITIVE_COUNT)
    add("--workers", type=workers, default=os.cpu_count() or 1, help="files at a time")
    add("--cv", type=int, default=0, help=helps["cv"])
    modes = catalogue()["city_mode"].declared.choices
    add("--city_mode", choices=modes, default=modes[0], help=helps["city_mode"])
    for flag in ROOT_FLAGS:
        add(flag, default="", metavar="DIR", help=helps[flag.removeprefix("--")])
    add("--set", action="append", metavar="KEY=VALUE", help=helps["set"])
    return parser


def read_request(parser: Parser, argv: Sequence[str] | None) -> DatasetRequest:
    """What `argv` asks for. UserError for a wrong key or value."""
    found = vars(parser.parse_args(argv))
    values = {name: found.pop(name) for name in (*SETTINGS, *(flag[2:] for flag in ROOT_FLAGS))}
    values["set"] = tuple(values["set"] or ())
    typed = {name: value for name, value in values.items() if value}
    return DatasetRequest(
        settings=unchecked(CommandLine(values=typed)),
        splits=found.pop("split"),
        workers=found.pop("workers"),
        more=found,
    )


def _split_names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in SPLITS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r}: some of {','.join(SPLITS)} wanted")
    return names
