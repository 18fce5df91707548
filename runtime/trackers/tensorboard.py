# SPDX-License-Identifier: Apache-2.0
"""TensorBoard: the file `events.out.tfevents.*` in the folder of the run."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch

from runtime.trackers.contract import Opening, Tell


class TensorBoard:
    """Writes an event file; a full disk costs its rest."""

    def __init__(self, opening: Opening) -> None:
        # It says that some value is NaN, not which one; that has been said where it was computed.
        logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)
        package = importlib.import_module("tensorboardX")
        self.facts: Mapping[str, str] = {}
        self.where = ""  # where everybody looks for it
        self._writer = package.SummaryWriter(logdir=str(opening.directory), flush_secs=1)
        outlive_errors(self._writer, opening.tell)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Scalars under their names."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def image(self, name: str, image: torch.Tensor, step: int) -> None:
        """A picture under its name."""
        self._writer.add_image(name, image, step)
        self._writer.flush()

    def close(self, state: str) -> None:
        """Close the file; it has no place for how the run ended."""
        del state
        self._writer.close()


class _Outliving:
    """The file of a TensorBoard writer, whose errors are reported and then ignored.

    The writer's own thread would end with a traceback at the first one, and the next write would
    wait for it forever.
    """

    def __init__(self, file: Any, tell: Tell) -> None:
        self._file, self._tell = file, tell

    def _try(self, act: Callable[..., object], *values: object) -> None:
        try:
            act(*values)
        except OSError as error:
            self._tell(error)

    def write(self, data: bytes) -> None:
        """Like `file.write`."""
        self._try(self._file.write, data)

    def flush(self) -> None:
        """Like `file.flush`."""
        self._try(self._file.flush)

    def close(self) -> None:
        """Like `file.close`."""
        self._try(self._file.close)


def outlive_errors(writer: Any, tell: Tell) -> None:
    """Let a full disk cost a tensorboardX `writer` its file, not the run."""
    events = getattr(getattr(writer, "file_writer", None), "event_writer", None)
    events = getattr(events, "_ev_writer", None)
    if events is not None and hasattr(events, "_py_recordio_writer"):
        events._py_recordio_writer = _Outliving(events._py_recordio_writer, tell)
