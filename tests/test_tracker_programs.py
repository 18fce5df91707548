# SPDX-License-Identifier: Apache-2.0
"""--tracker from the command line: several processes, a resumed run, a package that is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.program import TINY, run, street_flags

pytestmark = pytest.mark.slow


def flags(root: Path, out: Path, *more: str) -> list[str]:
    return [
        *TINY, *street_flags(root, out), "--class_uniform_pct", "0", "--crop_size", "64,96",
        "--bs_trn", "2", "--max_epoch", "2", *more,
    ]  # fmt: skip


def test_two_processes_write_one_run_which_a_resumed_one_goes_on_with(
    street_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    store = f"file://{tmp_path}/store"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    tracked = tmp_path / "tracked"
    ways = (["mlflow", "--max_epoch", "1"], ["mlflow,tensorboard", "--resume", "auto"])
    for way in ways:
        done = run("train.py", *flags(street_root, tracked, "--tracker", *way), ranks=2)
        assert done.returncode == 0, done.stdout + done.stderr
    client = mlflow.MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("hiseg")
    (found,) = client.search_runs([experiment.experiment_id])
    steps = [each.step for each in client.get_metric_history(found.info.run_id, "val/mean_iu")]
    assert (found.info.run_name, found.info.status, steps) == ("tracked", "FINISHED", [0, 1])
    assert found.data.params["crop_size"] == "[64, 96]"
    assert len(list(tracked.glob("events.out*"))) == 1, "of the second part alone"


def test_a_missing_package_ends_before_anything_is_written(
    street_root: Path, tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys\nsys.modules['wandb'] = None\n")
    out = tmp_path / "out"
    done = run("train.py", *flags(street_root, out, "--tracker", "wandb"), PYTHONPATH=str(hidden))
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1] == (
        "error: --tracker wandb: the package wandb is not installed; pip install wandb, "
        "or leave it out"
    )
    assert "Traceback" not in done.stderr and not out.exists()


def test_a_server_that_cannot_be_reached_is_one_line(street_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    there = {"MLFLOW_TRACKING_URI": "http://u:secret@127.0.0.1:9",
             "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}  # fmt: skip
    done = run("train.py", *flags(street_root, tmp_path, "--tracker", "mlflow"), **there)
    assert done.returncode == 2, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("error: --tracker mlflow cannot start: ") and "secret" not in last
    assert json.loads((tmp_path / "status.json").read_text())["status"] == "failed"
