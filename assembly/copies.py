# SPDX-License-Identifier: Apache-2.0
"""From settings to the local copies of what is read from a slow disk."""

from __future__ import annotations

from pathlib import Path

from datasets import places
from datasets.copies import GB, Copies
from runtime.progress import Log
from settings import Settings


def keep_copies(settings: Settings, log: Log) -> None:
    """Begin to keep copies below `--cache_dir`; without it, none.

    A folder that cannot be used costs one line, and the time of reading from the slow disk.
    """
    own = settings.DATASET
    copies = None
    if own.CACHE_DIR:
        copies = Copies(Path(settings.expand(own.CACHE_DIR)), round(own.CACHE_GB * GB))
        try:
            copies.prepare()
        except OSError as error:
            log(f"warning: --cache_dir {copies.folder}: {error.strerror}; going on without copies")
            copies = None
    places.keep_copies(copies)
