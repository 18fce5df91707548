# SPDX-License-Identifier: Apache-2.0
"""Experiment trackers by name: which class feeds each of them, and which package it needs."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from runtime.errors import near
from runtime.limits import brief

NO_TRACKER = "none"


@dataclass(frozen=True, kw_only=True)
class TrackerKind:
    """A tracker.

    made_by: its class, "module:name", called with an `Opening`. package: what it imports.
    install: what pip installs for it.
    """

    made_by: str
    package: str
    install: str


TRACKERS: dict[str, TrackerKind] = {
    "tensorboard": TrackerKind(
        made_by="runtime.trackers.tensorboard:TensorBoard",
        package="tensorboardX",
        install="tensorboardX",
    ),
    "mlflow": TrackerKind(
        made_by="runtime.trackers.mlflow:Mlflow", package="mlflow", install="mlflow"
    ),
    "wandb": TrackerKind(made_by="runtime.trackers.wandb:Wandb", package="wandb", install="wandb"),
    "trackio": TrackerKind(
        made_by="runtime.trackers.trackio:Trackio", package="trackio", install="trackio"
    ),
}


def tracker_names(text: str) -> tuple[str, ...]:
    """`mlflow,wandb` as names; `none` is no tracker at all. Raises argparse.ArgumentTypeError."""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if names == (NO_TRACKER,):
        return ()
    known = f"{', '.join(TRACKERS)}, or {NO_TRACKER} alone"
    for name in names:
        if name not in TRACKERS:
            raise argparse.ArgumentTypeError(
                f"{brief(name)!r} is not one of {known}{near(name, TRACKERS)}"
            )
    if not names or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{brief(text)!r}: a comma list of {known}, each once")
    return names
