# SPDX-License-Identifier: Apache-2.0
"""Standard output that takes every text, whatever the locale and wherever the text comes from."""

from __future__ import annotations

import io
import sys


def tolerate() -> None:
    """Show letters that stdout and stderr cannot encode as `\\xe9` instead of ending the program.

    A terminal of an ASCII locale has no accents, and a file name that is no UTF-8 is no text.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
