# SPDX-License-Identifier: Apache-2.0
"""What a run was told, from the files that it left behind, whatever is wrong with them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Entries that name a place or a machine, not an experiment.
SAME_EXPERIMENT = {"result_dir", "local_rank", "global_rank", "logdir", "command", "resume"}
MISSING = "–"

FlagTexts = dict[str, str]


def settings_of(folder: Path, damaged: list[str]) -> FlagTexts:
    """Flag -> text; every `--set KEY=VALUE` is an entry of its own."""
    facts = read_json(folder / "run.json", damaged)
    flags = facts.get("flags")
    if facts and not isinstance(flags, dict):
        damaged.append("run.json")
    if not flags or not isinstance(flags, dict):
        flags = read_json(folder / "hparams.json", damaged)
    if not flags:
        flags = _command_flags(folder / "submit_cmd.sh")
    settings = {}
    for name, value in flags.items():
        if name == "set":
            entries = value if isinstance(value, list) else [] if value is None else [value]
            pairs = (text_of(item).partition("=") for item in entries)
            settings.update({shown(key): shown(text) for key, _, text in pairs})
        elif name not in SAME_EXPERIMENT:
            settings[shown(name)] = shown(text_of(value))
    return settings


def _command_flags(path: Path) -> dict[str, Any]:
    """The flags of a runx command line; {} when there is none."""
    try:
        words = shlex.split(path.read_text(encoding="utf-8"), comments=True)
    except (OSError, ValueError):
        return {}
    if "--command" in words[:-1]:  # submitted to a farm: the command is one argument
        try:
            words = shlex.split(words[words.index("--command") + 1])
        except ValueError:
            return {}
    flags: dict[str, Any] = {}
    program = next((at for at, word in enumerate(words) if word.endswith(".py")), len(words))
    rest = words[program + 1 :]
    for position, word in enumerate(rest):
        if not word.startswith("--"):
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        following = rest[position + 1 : position + 2]
        if not equals and following and not following[0].startswith("--"):
            value = following[0]
        elif not equals:
            value = "true"
        if name == "set":
            flags.setdefault("set", []).append(value)
        else:
            flags[name] = value
    return flags


def text_of(value: Any) -> str:
    """A value as one would type it, so that files and command lines compare equal."""
    if value is None or value is False:
        return MISSING
    if value is True:
        return "true"
    if isinstance(value, list | tuple):
        flat = not any(isinstance(item, list | tuple | dict) for item in value)
        return ",".join(map(text_of, value)) if flat else json.dumps(value)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return str(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_json(path: Path, damaged: list[str]) -> dict[str, Any]:
    """The mapping in a file; {} when it is absent, or torn and noted in `damaged`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        content = None
    if isinstance(content, dict):
        return content
    damaged.append(path.name)
    return {}


def shown(text: str) -> str:
    """`text` on one line, in characters that every output takes."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())


def aligned(rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """Rows of as many cells as lines of text, in columns; with `numbers` all but the first one end
    below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if numbers and place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
