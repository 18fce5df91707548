# SPDX-License-Identifier: Apache-2.0
"""Standard output that accepts every text, whatever the locale and the origin of the text."""

from __future__ import annotations

import io
import sys


def tolerate() -> None:
    """Show letters that stdout and stderr cannot encode as `\\xe9` instead of ending the program.

    A terminal in an ASCII locale has no accents, and a file name that is not UTF-8 is not text.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
