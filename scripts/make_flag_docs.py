# SPDX-License-Identifier: Apache-2.0
"""Write docs/flags.md from the parser and the configuration tree.

python -m scripts.make_flag_docs docs/flags.md     # `make docs`
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path

import config
import flags
from flags.classification import DEFAULTS as TASK_DEFAULTS
from flags.values import exact

HEADER = """\
# Flags and configuration keys

<!-- Written by `make docs` from flags/ and config.py; do not edit by hand. -->

`train.py` and `eval.py` have the same flags. An unknown flag, a value of the wrong type or range,
and a flag that could have no effect with the others are errors (one line, exit code 2).
Lists are comma separated: `--n_scales 0.5,1.0,2.0`. `--bs-trn` is the same as `--bs_trn`.
"""

TREE = """\
## Configuration keys

Every key can be given in `paths.yml`, in the environment (`HISEG_` and the last part of the name,
e.g. `HISEG_CITYSCAPES_DIR`) and by `--set KEY=VALUE`; later sources win, flags stand between
environment and `--set`. Upper and lower case do not matter. Relative directories in `paths.yml`
count from the project root, elsewhere from the current directory.

| key | default | meaning |
|---|---|---|
"""

SPELLINGS = {  # of converters of flags/values.py that are no ranges of numbers
    "crop_size": "N or height,width",
    "stride": "N or height,width",
    "box": "long,short",
    "betas": "2 numbers below 1",
    "param_rules": "KEY:lr=F:decay=F, several",
    "file_name": "a path",
}


def cell(text: object) -> str:
    """`text` as one cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def shown(value: object) -> str:
    """A value as the user would type it; a dash for none."""
    if value is None or value == "" or value is False:
        return "-"
    if isinstance(value, tuple | list):
        return ",".join(str(item) for item in value)
    return str(value)


def bounds(convert: Callable[[str], object]) -> str:
    """What a converter of flags/values.py accepts, e.g. `integer >= 1`, read from its closure."""
    inside = inspect.getclosurevars(convert).nonlocals if inspect.isfunction(convert) else {}
    kind = inside.get("kind", convert)
    name = {int: "integer", float: "number"}.get(kind) or SPELLINGS.get(convert.__name__, "text")
    if "count" in inside:
        count, one = inside["count"], bounds(inside["one"])
        return f"{one}, list" if count is None else f"{count} x {one}"
    if "low" not in inside:
        return name
    low = f"{'above ' if inside['open_low'] else ''}{exact(inside['low'])}"
    return f"{name} {low} to {exact(inside['high'])}"


def accepted(action: argparse.Action) -> str:
    """The values a flag takes, for the table."""
    if action.nargs == 0:
        return "switch"
    if action.choices:
        return ", ".join(f"`{choice}`" for choice in action.choices)
    if action.type is None:
        return str(action.metavar or "text")
    text = bounds(action.type) if callable(action.type) else "text"
    if text == SPELLINGS["file_name"] and action.metavar:
        return str(action.metavar)
    return f"{' '.join(action.metavar)}: {text}" if isinstance(action.metavar, tuple) else text


def flag_table(group: argparse._ArgumentGroup) -> list[str]:
    """The rows of one group of flags."""
    rows = ["| flag | values | default | meaning |", "|---|---|---|---|"]
    for action in group._group_actions:
        if action.help == argparse.SUPPRESS:
            continue
        names = ", ".join(f"`{name}`" for name in action.option_strings)
        values = cell(accepted(action))
        rows.append(f"| {names} | {values} | {cell(shown(action.default))} | {cell(action.help)} |")
    return rows


def task_defaults() -> list[str]:
    """The flags whose default is another one with `--task classify`."""
    rows = ["With `--task classify` other flags have the defaults of its recipe:", ""]
    rows += ["| flag | default |", "|---|---|"]
    return rows + [
        f"| `--{name}` | {cell(shown(value))} |" for name, value in TASK_DEFAULTS.items()
    ]


def old_flags() -> list[str]:
    """The flags that are accepted without effect, and what to use instead."""
    rows = [
        "## Accepted without effect",
        "",
        "These flags of the published program never did anything, or their machinery is gone.",
        "They are accepted, and one line of the log says so.",
        "",
        "| flag | instead |",
        "|---|---|",
    ]
    replaced = {**flags.WITHOUT_EFFECT, **flags.REPLACED}
    return rows + [f"| `--{name}` | {cell(text)} |" for name, text in sorted(replaced.items())]


def comments(section: type) -> dict[str, str]:
    """The comment behind each field of a section of the configuration."""
    pattern = re.compile(r"^\s+(\w+):[^#\n]*(?:#\s*(.*))?$", re.MULTILINE)
    return {name: text or "" for name, text in pattern.findall(inspect.getsource(section))}


def key_table() -> list[str]:
    """One row for each key of the configuration tree."""
    rows = ["| `ASSETS_PATH` | assets | weights and caches; the word is replaced in file flags |"]
    for name, section in config.SECTIONS.items():
        meaning = comments(section)
        for item in dataclasses.fields(section):
            default = cell(shown(item.default))
            rows.append(f"| `{name}.{item.name}` | {default} | {cell(meaning[item.name])} |")
    return rows


def render() -> str:
    """The whole page."""
    lines = [HEADER]
    for group in flags.build_parser()._action_groups:
        if group.title in flags.GROUPS:
            lines += [f"## {str(group.title).capitalize()}", "", *flag_table(group), ""]
    lines += [*task_defaults(), ""]
    return "\n".join([*lines, *old_flags(), "", TREE.rstrip("\n"), *key_table()]) + "\n"


def main() -> int:
    """Write the page to the file named on the command line."""
    parser = argparse.ArgumentParser(description="write the page of flags")
    parser.add_argument("file", type=Path, help="the Markdown file to write")
    parser.parse_args().file.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
