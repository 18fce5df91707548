# SPDX-License-Identifier: Apache-2.0
"""MLflow: a server, a database or a folder, as MLFLOW_TRACKING_URI says.

Without that variable everything lies in the folder of the run, in `mlflow.db` and `mlartifacts/`.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch

from runtime.trackers.contract import PROJECT, Opening, pixels, without_password

ENDINGS = {"done": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
MAX_PARAMS, MAX_VALUE = 100, 6000  # in one request; letters of one value
# The client would try an unreachable server for many minutes; what the user has set counts.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}


class Mlflow:
    """One run of the experiment MLFLOW_EXPERIMENT_NAME, `hiseg` without it."""

    def __init__(self, opening: Opening) -> None:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        entities = importlib.import_module("mlflow.entities")
        self._metric, self._param = entities.Metric, entities.Param
        known, own = opening.known or {}, opening.directory.resolve()
        given = os.environ.get("MLFLOW_TRACKING_URI")
        uri = given or known.get("uri") or f"sqlite:///{own / 'mlflow.db'}"
        artifacts = None if given else (own / "mlartifacts").as_uri()
        self._client = importlib.import_module("mlflow").MlflowClient(tracking_uri=uri)
        shown = without_password(uri)
        if opening.known is None:
            self._run = self._create(opening, artifacts)
        else:
            self._run = known["run"]
            self._client.update_run(self._run, status="RUNNING")
        self.facts: Mapping[str, str] = {"run": self._run, "uri": shown}
        self.where = f"run {opening.name} ({self._run}) in {shown}"

    def _create(self, opening: Opening, artifacts: str | None) -> str:
        """A new run with all settings as its parameters; its id."""
        tags = {"mlflow.source.name": sys.argv[0], "directory": str(opening.directory.resolve())}
        run = self._client.create_run(self._experiment(artifacts), run_name=opening.name, tags=tags)
        params = [
            self._param(valid(name), str(value)[:MAX_VALUE])
            for name, value in opening.settings.items()
        ]
        for first in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(run.info.run_id, params=params[first : first + MAX_PARAMS])
        return str(run.info.run_id)

    def _experiment(self, artifacts: str | None) -> str:
        """The id of the experiment, which is made if there is none."""
        number = os.environ.get("MLFLOW_EXPERIMENT_ID")
        if number:
            return number
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, artifact_location=artifacts))
            except Exception:  # another run may have made it in the meantime
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers, each with its own step."""
        now = int(time.time() * 1000)
        metrics: list[Any] = [
            self._metric(valid(name), value, now, step) for name, value in values.items()
        ]
        self._client.log_batch(self._run, metrics=metrics)

    def image(self, name: str, image: torch.Tensor, step: int) -> None:
        """A picture, which the page of the run shows over its steps."""
        self._client.log_image(self._run, pixels(image), key=valid_key(name), step=step)

    def close(self, state: str) -> None:
        """How the run ended."""
        self._client.set_terminated(self._run, ENDINGS.get(state, "KILLED"))


def valid(name: str) -> str:
    """`name` with the letters that MLflow takes; others become `_`."""
    return re.sub(r"[^\w/.\- ]", "_", name)


def valid_key(name: str) -> str:
    """`name` with the letters that MLflow takes for a picture, of ASCII alone."""
    return re.sub(r"[^\w/.\- ]", "_", name, flags=re.ASCII)
