# SPDX-License-Identifier: Apache-2.0
"""Weights that can be had: what there is, fetch them, and say what a file is.

    python -m network.weights list                  # the table; further words filter it
    python -m network.weights list segformer ade
    python -m network.weights show mit-b0           # licence, score, command
    python -m network.weights fetch mit-b0          # into the cache of its library; prints the path
    python -m network.weights fetch https://host/net.pth#sha256=9f86d081...
    python -m network.weights check FILE            # layout, classes, and which --arch takes it

NAME is a row of the table, all of it or a part that only one row has, or anything that --snapshot
and --pretrained take: hf:REPO[@REV], timm:NAME, torchvision:NAME, https://...
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from network.fetch import fetch
from network.fetch.hub import parse
from network.identify import identify
from network.known import Known, find, matching, read_table
from runtime import streams
from runtime.download import sha256_of
from runtime.errors import UserError, wrong_input
from runtime.remote import HUB, is_remote

CACHED = re.compile(r"^models--(.+)$")  # folder of a repository in the cache of the hub
CARD = re.compile(r"^license:\s*(\S+)", re.MULTILINE)  # in the head of a model card
NAMES_SHOWN = 8


def listed(text: str) -> list[str]:
    """The table, one line a row; UserError if nothing fits `text`."""
    rows = matching(text, read_table())
    if not rows:
        raise UserError(f"no row of the table has {text!r}; `list` without words shows all")
    cells = [("for --arch", "flag", "name", "published", "licence")]
    cells += [(r.arch, r.use, r.where, r.score, r.licence.partition(",")[0]) for r in rows]
    widths = [max(len(cell[column]) for cell in cells) for column in range(4)]
    return [
        "  ".join([*(f"{c:{w}}" for c, w in zip(cell, widths, strict=False)), cell[4]]).rstrip()
        for cell in cells
    ]


def shown(name: str) -> list[str]:
    """All that the table says of one row."""
    return find(name, read_table()).lines()


def fetched(name: str) -> list[str]:
    """Download, and say where it lies and how to use it."""
    row = _row(name)
    where = row.where if row else name
    found = fetch(f"{where}#sha256={row.sha256}" if row and row.sha256 else where, print)
    lines = [found.path]
    if found.revision:
        lines.append(f"revision  {found.revision}")
    licence = row.licence if row else found.licence
    lines += [f"licence   {licence}"] if licence else []
    return lines + (row.lines()[-1:] if row else [])


def _row(name: str) -> Known | None:
    """The row of the table that is meant; None for other names to fetch."""
    table = read_table()
    if is_remote(name):
        return next((row for row in table if row.where == name), None)
    return find(name, table)


def checked(name: str) -> list[str]:
    """What a file or folder of this machine is."""
    if is_remote(name):
        name = fetch(name, print).path
    found = identify(name)
    count = "unknown" if found.classes is None else str(found.classes)
    names = f": {', '.join(found.class_names[:NAMES_SHOWN])}" if found.class_names else ""
    more = ", ..." if len(found.class_names) > NAMES_SHOWN else ""
    lines = [
        f"{name}: {found.kind}",
        f"tensors       {found.tensors} of {found.numbers:,} numbers",
        f"classes       {count}{names}{more}",
        f"licence       {_licence(Path(name))}",
    ]
    if Path(name).is_file():
        lines.append(f"sha256        {sha256_of(Path(name))}")
    lines.append(f"--snapshot    {_archs(found.snapshot)}")
    return [*lines, f"--pretrained  {_archs(found.pretrained)}"]


def _archs(names: tuple[str, ...]) -> str:
    if not names:
        return "no architecture takes it"
    more = len(names) - NAMES_SHOWN
    return "--arch " + ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _licence(path: Path) -> str:
    """By the card beside the weights, else by the table for a folder of the hub's cache."""
    card = (path if path.is_dir() else path.parent) / "README.md"
    if card.is_file():
        text = card.read_text(encoding="utf-8", errors="replace")
        head = text.split("\n---", 1)[0] if text.startswith("---") else ""
        if found := CARD.search(head):
            return f"{found[1]} (its card)"
    for part in path.absolute().parts:
        if match := CACHED.match(part):
            repo = match[1].replace("--", "/", 1)
            rows = [
                r for r in read_table() if r.where.startswith(HUB) and parse(r.where)[0] == repo
            ]
            if rows:
                return rows[0].licence
    return "unknown: neither a card beside it nor the table says it"


COMMANDS = {"list": listed, "show": shown, "fetch": fetched, "check": checked}


def main(arguments: list[str] | None = None) -> int:
    """Print what a command finds; 0, or 2 when the input is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m network.weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("name", nargs="*", metavar="NAME", help="list: words to filter by")
    args = parser.parse_args(arguments)
    streams.tolerate()
    try:
        if args.command != "list" and len(args.name) != 1:
            raise UserError(f"{args.command}: one name wanted, got {len(args.name)}")
        print("\n".join(COMMANDS[args.command](" ".join(args.name))))
    except UserError as error:
        return wrong_input(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
