# SPDX-License-Identifier: Apache-2.0
"""Write docs/flags.md from the catalogue of settings.

python -m scripts.make_flag_docs docs/flags.md     # `make docs`
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from settings import catalogue
from settings.catalogue import Setting
from settings.convert import exact
from settings.declare import Bounds
from settings.published import REPLACED, WITHOUT_EFFECT
from settings.task import recipe_defaults

HEADER = """\
# Flags and configuration keys

<!-- Written by `make docs` from settings/; do not edit by hand. -->

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

In a program or notebook of your own, `parse_args` reads all of these sources, and `cfg` shows what
they say; `cfg.settings` holds every setting, keys or not, by the groups of `settings/tree.py`.
Nothing can be written to it.

    from config import cfg, parse_args
    parse_args(["--dataset", "camvid", "--n_scales", "0.5,1.0"])
    cfg.DATASET.CAMVID_DIR, cfg.MODEL.n_scales, cfg.settings.optimiser.lr

| key | default | meaning |
|---|---|---|
"""

SPELLINGS = {  # of converters that are no ranges of numbers
    "crop_size": "N or height,width",
    "stride": "N or height,width",
    "box": "long,short",
    "most_pixels": "N or none",
    "betas": "2 numbers below 1",
    "param_rules": "KEY:lr=F:decay=F, several",
    "class_weights": "`auto` or numbers",
    "tracker_names": "names, or none",
}


def cell(text: object) -> str:
    """`text` as one cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def shown(value: object) -> str:
    """A value as the user would type it; a dash for none."""
    if value is None or value == "" or value is False or value == ():
        return "-"
    if isinstance(value, tuple | list):
        return ",".join(str(item) for item in value)
    return str(value)


def numbers(kind: type, bounds: Bounds) -> str:
    """What a number may be, e.g. `integer 1 to 512`."""
    name = "integer" if kind is int else "number"
    low = f"{'above ' if bounds.above else ''}{exact(bounds.low)}"
    return f"{name} {low} to {exact(bounds.high)}"


def values(setting: Setting) -> str:
    """What a setting may be, without its metavar."""
    declared = setting.declared
    if declared.parse is not None:
        return SPELLINGS[declared.parse.__name__]
    if declared.bounds is None:
        return "a path" if declared.path else "text"
    if setting.base in (int, float):
        return numbers(setting.base, declared.bounds)
    kind, count = setting.parts
    one = numbers(kind, declared.bounds)
    if declared.counts:
        return f"{' or '.join(map(str, declared.counts))} x {one}"
    return f"{one}, list" if count is None else f"{count} x {one}"


def accepted(setting: Setting) -> str:
    """The values a flag takes, for the table."""
    declared = setting.declared
    if setting.base is bool:
        return "switch"
    if declared.choices:
        return ", ".join(f"`{choice}`" for choice in declared.choices)
    text, metavar = values(setting), declared.metavar
    if metavar and text in ("a path", "text"):
        return str(metavar)
    return f"{' '.join(metavar)}: {text}" if isinstance(metavar, tuple) else text


def flag_tables() -> list[str]:
    """The flags of each group, under its title."""
    titles: dict[str, list[Setting]] = {}
    for setting in catalogue().values():
        if setting.declared.flags and setting.declared.help:
            titles.setdefault(setting.title, []).append(setting)
    lines = []
    for title, members in titles.items():
        heading = title[0].upper() + title[1:]
        lines += [f"## {heading}", "", "| flag | values | default | meaning |", "|---|---|---|---|"]
        for setting in members:
            flags = ", ".join(f"`{flag}`" for flag in setting.declared.flags)
            default, meaning = cell(shown(setting.default)), cell(setting.declared.help)
            lines.append(f"| {flags} | {cell(accepted(setting))} | {default} | {meaning} |")
        lines.append("")
    return lines


def task_defaults() -> list[str]:
    """The flags whose default is another one with `--task classify`."""
    rows = ["With `--task classify` other flags have the defaults of its recipe:", ""]
    rows += ["| flag | default |", "|---|---|"]
    found = recipe_defaults().items()
    return rows + [f"| `--{name}` | {cell(shown(value))} |" for name, value in found]


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
    replaced = {**WITHOUT_EFFECT, **REPLACED}
    return rows + [f"| `--{name}` | {cell(text)} |" for name, text in sorted(replaced.items())]


def key_table() -> list[str]:
    """One row for each key of the configuration tree."""
    rows = ["| `ASSETS_PATH` | assets | weights and caches; the word is replaced in file flags |"]
    for setting in catalogue().values():
        if setting.key:
            default, meaning = cell(shown(setting.default)), cell(setting.declared.help)
            rows.append(f"| `{setting.key}` | {default} | {meaning} |")
    return rows


def render() -> str:
    """The whole page."""
    lines = [HEADER, *flag_tables(), *task_defaults(), ""]
    return "\n".join([*lines, *old_flags(), "", TREE.rstrip("\n"), *key_table()]) + "\n"


def main() -> int:
    """Write the page to the file named on the command line."""
    parser = argparse.ArgumentParser(description="write the page of flags")
    parser.add_argument("file", type=Path, help="the Markdown file to write")
    parser.parse_args().file.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
