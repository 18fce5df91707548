# SPDX-License-Identifier: Apache-2.0
"""The rows of metrics.csv: `val,NAME,VALUE,...,epoch,NUMBER,timestamp,SECONDS`, one per validation.

NUMBER is the epoch, or with `--val_iters` the number of optimiser steps; it identifies the
validation. A killed run leaves rows that its checkpoint knows nothing about, or half a row; a
resumed run drops them.
"""

from __future__ import annotations

import csv
from pathlib import Path

METRICS = "metrics.csv"


def parse_row(line: str) -> tuple[float, dict[str, float]] | None:
    """Number and values of a val row; None for any other, incomplete or foreign line."""
    phase, *cells = next(csv.reader([line]), [""])
    if phase != "val" or len(cells) % 2:
        return None
    try:
        values = {key: float(value) for key, value in zip(cells[::2], cells[1::2], strict=True)}
    except ValueError:
        return None
    if "timestamp" not in values or "epoch" not in values:
        return None
    return values["epoch"], values


def kept(text: str, last: float) -> tuple[str, dict[str, float]]:
    """`text` without what comes after validation `last`, and the values of `last` ({} if absent).

    The first row of a validation is kept, others with the same number are dropped, and so are
    incomplete rows. Lines that are not val rows are kept.
    """
    lines, seen = [], dict[float, dict[str, float]]()
    for line in text.splitlines():
        if not line.startswith("val"):
            lines.append(line)
            continue
        row = parse_row(line)
        if row is None or row[0] in seen or row[0] > last:
            continue
        seen[row[0]] = row[1]
        lines.append(line)
    return "".join(f"{line}\n" for line in lines), seen.get(last, {})


def has_rows(directory: Path) -> bool:
    """Whether any validation of a run in `directory` is on record."""
    return any(parse_row(line) for line in read(directory).splitlines())


def read(directory: Path) -> str:
    """The content of metrics.csv, empty if there is none."""
    path = directory / METRICS
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def mend(directory: Path) -> None:
    """Remove half a line that a kill or a full disk left at the end, before others follow."""
    path = directory / METRICS
    content = path.read_bytes() if path.is_file() else b""
    if content and not content.endswith(b"\n"):
        with path.open("rb+") as file:
            file.truncate(content.rfind(b"\n") + 1)
