# SPDX-License-Identifier: Apache-2.0
"""Trackers: what their users see of a run, and that none of them can cost the training anything."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from assembly.run import tracker_makers
from config import UserError
from runtime.runlog import RunLog
from runtime.trackers.contract import Maker, Opening, pixels
from runtime.trackers.opened import FILE, Background
from settings import read_flags, read_settings
from tests.program import ROOT, environment

PICTURE = torch.linspace(0, 1, 3 * 4 * 6).reshape(3, 4, 6)


def test_a_list_of_trackers_is_checked_before_anything_is_read() -> None:
    assert read_settings([]).run.tracker == ("tensorboard",)
    assert read_settings(["--tracker", "wandb,tensorboard"]).run.tracker == ("wandb", "tensorboard")
    assert read_settings(["--tracker", "none"]).run.tracker == ()
    for text, said in {
        "mlflo": "did you mean mlflow", "mlflow,mlflow": "each once", "none,wandb": "'none' is not",
        "": "comma list",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=said):
            read_flags(["--tracker", text])


def test_a_tracker_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    settings = read_settings(["--tracker", "tensorboard,trackio"])
    with pytest.raises(UserError, match="trackio: the package trackio is not installed; pip inst"):
        tracker_makers(settings)
    names = tracker_makers(read_settings(["--tracker", "tensorboard,trackio", "--summary"]))
    assert list(names) == ["tensorboard"], "what logs no number opens no other"


class Listed:
    """A tracker that keeps what it gets, and fails or waits when it is told to."""

    where = "in a list"

    def __init__(self, opening: Opening, fails: bool = False, waits: float = 0) -> None:
        random.random()  # as libraries do that make up names
        torch.rand(1)
        self.opening, self.fails, self.waits = opening, fails, waits
        self.facts = {"id": "1"} if opening.known is None else dict(opening.known)
        self.rows: list[tuple[Mapping[str, float], int]] = []
        self.pictures: list[str] = []
        self.state = ""

    def log(self, values: Mapping[str, float], step: int) -> None:
        if self.fails and self.rows:
            raise ConnectionError("no route\nto http://me:secret@host")
        threading.Event().wait(self.waits)
        self.rows.append((values, step))

    def image(self, name: str, image: torch.Tensor, step: int) -> None:
        self.pictures.append(name)

    def close(self, state: str) -> None:
        self.state = state


def opened(kept: list[Listed], **how: bool) -> Maker:
    def make(opening: Opening) -> Listed:
        kept.append(Listed(opening, **how))
        return kept[-1]

    return make


def a_run(directory: Path, makers: Mapping[str, Maker], state: str, goes_on: bool = False) -> None:
    log = RunLog(directory, is_main=True, progress=False)
    try:
        log.open({"lr": 0.1, "crop_size": (64, 96)}, makers, goes_on)
        for step in range(3):
            log.metric("train", {"loss": 1.0}, step)
        log.metric("val", {"mean_iu": 0.5}, 0)
        log.image("val/ü/x", PICTURE, 0)
        log.status(state)
    finally:
        log.close()


def test_a_tracker_gets_what_the_log_gets_and_how_the_run_ended(tmp_path: Path) -> None:
    kept: list[Listed] = []
    state = random.getstate(), torch.get_rng_state()
    a_run(tmp_path, {"listed": opened(kept)}, "interrupted")
    assert (random.getstate(), torch.get_rng_state().tolist()) == (state[0], state[1].tolist())
    found = kept[0]
    assert found.opening.settings == {"lr": 0.1, "crop_size": [64, 96]}
    assert found.rows == [({"train/loss": 1.0}, 0), ({"train/loss": 1.0}, 1),
                          ({"train/loss": 1.0}, 2), ({"val/mean_iu": 0.5}, 0)]  # fmt: skip
    assert (found.pictures, found.state) == (["val/ü/x"], "interrupted")
    assert "listed: in a list" in (tmp_path / "logging.log").read_text()
    assert not list(tmp_path.glob("events.out.tfevents.*")), "tensorboard was not asked for"


def test_a_resumed_run_goes_on_in_the_same_run_and_a_new_one_does_not(tmp_path: Path) -> None:
    kept: list[Listed] = []
    for goes_on in (False, True, False):
        a_run(tmp_path, {"listed": opened(kept)}, "done", goes_on)
    assert [each.opening.known for each in kept] == [None, {"id": "1"}, None]
    assert json.loads((tmp_path / FILE).read_text()) == {"listed": {"id": "1"}}


def test_a_damaged_list_of_runs_is_named(tmp_path: Path) -> None:
    kept: list[Listed] = []
    a_run(tmp_path, {"listed": opened(kept)}, "done")
    for content in ("{", "[1]", '{"listed": {"id": 1}}'):
        (tmp_path / FILE).write_text(content)
        a_run(tmp_path, {"listed": opened(kept)}, "done", goes_on=True)
        assert kept[-1].opening.known is None
        last = (tmp_path / "logging.log").read_text().splitlines()[-1]
        assert last.endswith(f"{FILE} is damaged: these are new runs of the trackers")
        assert json.loads((tmp_path / FILE).read_text()) == {"listed": {"id": "1"}}


def test_a_tracker_that_fails_in_the_middle_costs_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept: list[Listed] = []
    other: list[Listed] = []
    makers = {"listed": opened(kept, fails=True), "other": opened(other)}
    a_run(tmp_path, makers, "done")
    warnings = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert warnings == [
        "warning: --tracker listed failed (no route to http://host); the run goes on without it"
    ]
    assert (len(kept[0].rows), kept[0].pictures, kept[0].state) == (1, [], "done")
    assert (len(other[0].rows), other[0].pictures) == (4, ["val/ü/x"])


def test_a_run_does_not_wait_forever_for_a_tracker_that_hangs(tmp_path: Path) -> None:
    told: list[BaseException] = []
    hanging = Background(Listed(Opening(directory=tmp_path, settings={}), waits=30),
                         told.append, patience=0.1)  # fmt: skip
    hanging.log({"loss": 1.0}, 0)
    hanging.close("done")
    assert [str(error) for error in told] == ["the last values were not taken within 0.1 s"]


def refusing(opening: Opening) -> Listed:
    raise RuntimeError("nobody is logged in")


def test_a_tracker_that_cannot_start_ends_a_new_run_but_not_a_resumed_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept: list[Listed] = []
    with pytest.raises(UserError, match="listed cannot start: nobody is logged in; mend that"):
        a_run(tmp_path, {"first": opened(kept), "listed": refusing}, "done")
    assert kept[0].state == "failed"
    a_run(tmp_path, {"listed": opened(kept)}, "done")
    a_run(tmp_path, {"listed": refusing}, "done", goes_on=True)
    assert "listed failed (nobody is logged in); the run goes on" in capsys.readouterr().out
    assert json.loads((tmp_path / FILE).read_text()) == {"listed": {"id": "1"}}


def test_pixels_are_those_of_the_picture() -> None:
    found = pixels(PICTURE)
    assert (found.shape, found.dtype.name) == ((4, 6, 3), "uint8")
    assert found[0, 0].tolist() == [0, round(255 * 24 / 71), round(255 * 48 / 71)]


# With the packages themselves, without any network.


def both_parts(directory: Path, maker: Callable[[Opening], object]) -> None:
    """A run that is interrupted, and its resumption, which repeats the last rows."""
    a_run(directory, {"x": maker}, "interrupted")  # type: ignore[dict-item]
    a_run(directory, {"x": maker}, "done", goes_on=True)  # type: ignore[dict-item]


@pytest.mark.slow
@pytest.mark.parametrize("store", ["folder", "database"])
@pytest.mark.filterwarnings("ignore")  # of its libraries
def test_mlflow_shows_one_run(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    from runtime.trackers.mlflow import Mlflow

    run = tmp_path / "run"
    uri = f"sqlite:///{run / 'mlflow.db'}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if store == "folder":
        uri = f"file://{tmp_path / 'store'}"
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    else:
        for name in ("sqlalchemy", "alembic"):
            pytest.importorskip(name, reason=f"{name} is not installed")
    both_parts(run, Mlflow)
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("hiseg")
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("run", "FINISHED")
    assert found.data.params == {"lr": "0.1", "crop_size": "[64, 96]"}
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert sorted(each.step for each in history) == [0, 0, 1, 1, 2, 2]
    assert found.data.metrics["val/mean_iu"] == 0.5
    assert client.list_artifacts(found.info.run_id, "images")
    left = {"run", "store"} if store == "folder" else {"run"}
    assert {path.name for path in tmp_path.iterdir()} == left, "nothing lies anywhere else"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_takes_any_name_of_a_class() -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    from mlflow.utils.validation import _validate_metric_name

    from runtime.trackers.mlflow import valid

    for name in ("iou/traffic light", "iou/Fußgänger", "iou/a:b,(c)\n", "train/lr_hanet"):
        _validate_metric_name(valid(name))
    assert valid("iou/Fußgänger (x)") == "iou/Fußgänger _x_"


def history(file: Path) -> list[dict[str, str]]:
    """The rows in a file of wandb: after 7 bytes, protobuf records in blocks as LevelDB's log."""
    from wandb.proto import wandb_internal_pb2

    content, place, whole, rows = file.read_bytes(), 7, b"", []
    while place + 7 <= len(content):
        if place % 32768 > 32768 - 7:  # no room for a header: the rest of the block is empty
            place += 32768 - place % 32768
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a record, or its last part
            record = wandb_internal_pb2.Record.FromString(whole)
            whole = b""
            if record.HasField("history"):
                items = record.history.item
                rows.append({each.key or each.nested_key[0]: each.value_json for each in items})
    return rows


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_keeps_one_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    from runtime.trackers.wandb import Wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    both_parts(tmp_path / "run", Wandb)
    known = json.loads((tmp_path / "run" / FILE).read_text())["x"]
    files = sorted((tmp_path / "run" / "wandb").glob(f"offline-run-*/run-{known['id']}.wandb"))
    rows: list[dict[str, str]] = []
    for _ in range(100):  # its own process may write the last ones a moment later
        rows = [row for file in files for row in history(file)]
        if len(rows) == 10:
            break
        time.sleep(0.1)
    losses = [(row["train/step"], row["train/loss"]) for row in rows if "train/loss" in row]
    assert losses == [("0", "1"), ("1", "1"), ("2", "1")] * 2
    assert [row["val/step"] for row in rows if "val/mean_iu" in row] == ["0", "0"]
    steps = [int(row["_step"]) for row in rows]
    assert steps[:5] == sorted(set(steps[:5])) and steps[5:] == sorted(set(steps[5:]))
    assert len(list((tmp_path / "run").rglob("media/images/**/*.png"))) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"run"}, "nothing lies anywhere else"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trackio_keeps_one_run(tmp_path: Path) -> None:
    """In a process of its own: the package reads TRACKIO_DIR when it is imported."""
    pytest.importorskip("trackio", reason="trackio is not installed")
    call = "from tests.runtime.test_trackers import both_parts; from pathlib import Path; "
    call += "from runtime.trackers.trackio import Trackio; import sys; "
    call += "both_parts(Path(sys.argv[1]), Trackio)"
    there = environment(TRACKIO_DIR=str(tmp_path / "store"))
    python = [sys.executable, "-c", call, str(tmp_path / "run")]
    subprocess.run(python, cwd=ROOT, env=there, check=True, capture_output=True, timeout=120)
    known = json.loads((tmp_path / "run" / FILE).read_text())["x"]["name"]
    assert known.startswith("run-2")

    def shown(*words: str) -> dict[str, list[Any]]:
        """What the program of the package prints."""
        program = [sys.executable, "-m", "trackio.cli", *words, "--project", "hiseg", "--json"]
        done = subprocess.run(program, env=there, check=True, capture_output=True, timeout=120)
        return json.loads(done.stdout)

    assert shown("list", "runs")["runs"] == [known]
    values = shown("get", "metric", "--run", known, "--metric", "train/loss")["values"]
    found = sorted((row["step"], row["value"]) for row in values)
    assert found == [(0, 1.0), (0, 1.0), (1, 1.0), (1, 1.0), (2, 1.0), (2, 1.0)]
    assert len(list((tmp_path / "store" / "media").rglob("*.png"))) == 2
