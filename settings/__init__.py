# SPDX-License-Identifier: Apache-2.0
"""Settings: declared once as fields of frozen dataclasses, read from every source, checked.

`read_settings` gives the `Settings` of a command line; `config.parse_args` also fills `config.cfg`.
Imports neither torch nor NumPy, so that `--help` and a wrong flag answer at once.
"""

from settings.catalogue import catalogue, flag_values, keys, known_keys, tree_of
from settings.parser import CommandLine, Parser, build_parser, read_flags
from settings.resolve import read_settings, resolve
from settings.task import with_task
from settings.tree import PROJECT_ROOT, Settings

__all__ = [
    "PROJECT_ROOT",
    "CommandLine",
    "Parser",
    "Settings",
    "build_parser",
    "catalogue",
    "flag_values",
    "keys",
    "known_keys",
    "read_flags",
    "read_settings",
    "resolve",
    "tree_of",
    "with_task",
]
