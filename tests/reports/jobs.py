# SPDX-License-Identifier: Apache-2.0
"""A job for writer processes, in a module that loads nothing large."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Write:
    """Writes to a path, or ends or keeps its process where the name says so."""

    path: Path
    content: bytes = b"x"

    def run(self) -> int:
        if self.path.name == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.path.name == "waits":
            time.sleep(60)
        self.path.write_bytes(self.content)
        return os.getpid()
