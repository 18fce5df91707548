# SPDX-License-Identifier: Apache-2.0
"""The command line of `train.py` and `eval.py`: every flag with type, range and help.

`parse_args` delivers typed values (`--crop_size 896` is `(896, 896)`, `--n_scales 0.5,1.0` a
tuple of floats), refuses settings that could have no effect, fills `config.cfg` and freezes it.
Imports neither torch nor NumPy, so `--help` and a wrong flag answer at once.
"""

from flags.parser import (
    GROUPS,
    REPLACED,
    WITHOUT_EFFECT,
    adopt_task,
    build_parser,
    parse_args,
    parse_or_exit,
    read_flags,
    resolve,
)
from flags.values import Parser

__all__ = [
    "GROUPS",
    "REPLACED",
    "WITHOUT_EFFECT",
    "Parser",
    "adopt_task",
    "build_parser",
    "parse_args",
    "parse_or_exit",
    "read_flags",
    "resolve",
]
