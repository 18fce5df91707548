# SPDX-License-Identifier: Apache-2.0
"""The command line of the programs that go through the label files of a data set."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from config import Config, configure
from datasets import registry
from flags.values import positive_int

SPLITS = ("train", "val", "test")


def add_dataset_flags(
    parser: argparse.ArgumentParser, splits: tuple[str, ...] | None, more: Sequence[str] = ()
) -> None:
    """Add the flags that the listings of the registry read.

    splits: what no --split means, None for all that there are. more: names of sets that the program
    accepts besides those of the registry.
    """
    without = ",".join(splits) if splits else "all"
    add = parser.add_argument
    add("--dataset", required=True, choices=sorted([*registry.TABLE, *more]))
    add(
        "--split",
        type=_split_names,
        default=splits,
        help=f"some of {','.join(SPLITS)}; {without} without this flag",
    )
    add("--workers", type=positive_int, default=os.cpu_count() or 1, help="files at a time")
    add("--cv", type=int, default=0, help="cross-validation fold")
    add("--city_mode", choices=("train", "trainval"), default="train", help="trainval: on both")
    add("--set_cityscapes_root", default="", metavar="DIR")
    add("--set", action="append", metavar="KEY=VALUE", help="any configuration key")


def configured(args: argparse.Namespace) -> Config:
    """The configuration of `args`, frozen. UserError for a wrong key or value."""
    given = ["set_cityscapes_root"] if args.set_cityscapes_root else []
    return configure(args, given, Config())


def _split_names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in SPLITS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r}: some of {','.join(SPLITS)} wanted")
    return names
