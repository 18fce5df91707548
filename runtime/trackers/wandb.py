# SPDX-License-Identifier: Apache-2.0
"""Weights & Biases: online after `wandb login`, or files to sync later with WANDB_MODE=offline."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Mapping
from typing import Any

import torch

from runtime.trackers.contract import PROJECT, Opening, pixels


class Wandb:
    """One run of the project WANDB_PROJECT, `hiseg` without it; files go to the run's folder."""

    def __init__(self, opening: Opening) -> None:
        self._package = importlib.import_module("wandb")
        known = opening.known
        place = {"project": os.environ.get("WANDB_PROJECT") or PROJECT}
        if known is not None:
            place = {name: known[name] for name in ("project", "entity", "id") if known.get(name)}
        self._run = self._package.init(
            **place,
            name=os.environ.get("WANDB_NAME") or opening.name,
            resume=None if known is None else "allow",
            dir=os.environ.get("WANDB_DIR") or str(opening.directory),
            config=dict(opening.settings),
            settings=self._package.Settings(console="off"),  # logging.log has every line
        )
        started = str(int(time.time())) if known is None else known["started"]
        self._started, self._step = int(started), self._run.step
        names = [name for name in ("id", "project", "entity") if getattr(self._run, name)]
        ids = {name: str(getattr(self._run, name)) for name in names}
        self.facts: Mapping[str, str] = {**ids, "started": started}
        files = self._run.settings.sync_dir
        offline = f"offline, `wandb sync {files}` uploads it"
        self.where = offline if self._run.offline else str(self._run.url)
        self._axes: set[str] = set()

    def _place(self, name: str, step: int) -> dict[str, int]:
        """The step as a value of its own axis.

        Training counts steps and validation epochs; wandb's own step would have to rise and would
        refuse what a resumed run repeats.
        """
        kind = name.partition("/")[0]
        axis = f"{kind}/step"
        if kind not in self._axes:
            self._axes.add(kind)
            self._run.define_metric(axis, hidden=True)
            self._run.define_metric(f"{kind}/*", step_metric=axis)
        return {axis: step}

    def _send(self, row: dict[str, Any]) -> None:
        """Log a row. wandb's own step has to rise, across resumptions that it does not see offline,
        too: it is a number of seconds, or the next one.
        """
        self._step = max(self._step + 1, int(time.time()) - self._started)
        self._run.log(row, step=self._step)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers over the steps of their kind."""
        row: dict[str, Any] = dict(values)
        for name in values:
            row |= self._place(name, step)
        self._send(row)

    def image(self, name: str, image: torch.Tensor, step: int) -> None:
        """A picture over the steps of its kind."""
        self._send({name: self._package.Image(pixels(image)), **self._place(name, step)})

    def close(self, state: str) -> None:
        """Upload the rest, and how the run ended."""
        self._run.finish(exit_code=0 if state == "done" else 1)
