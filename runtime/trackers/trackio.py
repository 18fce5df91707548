# SPDX-License-Identifier: Apache-2.0
"""Trackio: a local database (TRACKIO_DIR), or a Space of the hub (TRACKIO_SPACE_ID)."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping

import torch

from runtime.trackers.contract import PROJECT, Opening, pixels


class Trackio:
    """One run of the project `hiseg`."""

    def __init__(self, opening: Opening) -> None:
        self._package = importlib.import_module("trackio")
        # It finds a run again by its name alone, so no two may have the same.
        name = f"{opening.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        if opening.known is not None:
            name = opening.known["name"]
        self._run = self._package.init(
            project=PROJECT,
            name=name,
            config=dict(opening.settings),
            resume="never" if opening.known is None else "allow",
            embed=False,
        )
        self.facts: Mapping[str, str] = {"name": name}
        self.where = f"run {name}, `trackio show --project {PROJECT}` shows it"

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers at a step."""
        self._run.log(dict(values), step=step)

    def image(self, name: str, image: torch.Tensor, step: int) -> None:
        """A picture at a step."""
        self._run.log({name: self._package.Image(pixels(image))}, step=step)

    def close(self, state: str) -> None:
        """Write the rest; it has no place for how the run ended."""
        del state
        self._run.finish()
