# SPDX-License-Identifier: Apache-2.0
"""The files of a run: JSON that every parser reads, rows that are whole, disks that are full."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from runtime import val_rows
from runtime.checkpoint import SaveError
from runtime.runlog import RunLog, plain, write_json
from tests.full_disk import full_after

START = "start,start/step,0,timestamp,1.0\n"


def row(number: float, score: float, more: str = "") -> str:
    return f"val,mean_iu,{score}{more},epoch,{number},timestamp,{number + 5.0}\n"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[RunLog]:
    run_log = RunLog(tmp_path, is_main=True, progress=False)
    run_log.open({"lr": math.inf})
    yield run_log
    run_log.close()


def strict(path: Path) -> dict:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_numbers_that_json_has_not_are_null(log: RunLog, tmp_path: Path) -> None:
    values = [math.nan, np.float32("inf"), np.float64("nan"), torch.tensor(-math.inf), 0.5]
    assert plain({"a": tuple(values)}) == {"a": [None, None, None, None, 0.5]}
    write_json(tmp_path / "x.json", {"a": values})
    assert strict(tmp_path / "x.json") == {"a": [None, None, None, None, 0.5]}
    log.status("done", best=math.nan, nested={"loss": [math.inf]})
    assert strict(tmp_path / "status.json")["best"] is None
    assert strict(tmp_path / "hparams.json") == {"lr": None}


def test_rows_after_a_validation_go_and_torn_or_repeated_ones(tmp_path: Path) -> None:
    text = START + row(0, 0.1) + row(1, 0.2) + START + row(1, 0.25) + row(2, 0.3)
    text += "val,mean_iu,0.4,ep\nval,mean_iu,0.4,epstart,start/step,0,timestamp,1.0\n"
    kept, values = val_rows.kept(text, 1)
    assert kept == START + row(0, 0.1) + row(1, 0.2) + START
    assert values["mean_iu"] == 0.2
    assert val_rows.kept(text, 5)[1] == {}
    assert val_rows.kept(text, -1)[0] == START + START


def test_the_log_goes_on_in_the_shortened_file(log: RunLog, tmp_path: Path) -> None:
    for number in range(3):
        log.metric("val", {"mean_iu": 0.1 * number}, number)
    assert log.keep_val_rows(1)["mean_iu"] == 0.1
    log.metric("val", {"mean_iu": 0.7}, 2)
    rows = [val_rows.parse_row(line) for line in val_rows.read(tmp_path).splitlines()]
    found = [(each[0], each[1]["mean_iu"]) for each in rows if each]
    assert found == [(0, 0.0), (1, 0.1), (2, 0.7)]


def test_half_a_line_is_cut_off_before_others_follow(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(START + row(0, 0.1) + "val,mean_iu,0.2,ep")
    run_log = RunLog(tmp_path, is_main=True, progress=False)
    run_log.open({})
    run_log.close()
    lines = val_rows.read(tmp_path).splitlines(keepends=True)
    assert lines[:2] == [START, row(0, 0.1)]
    assert len(lines) == 3 and lines[2].startswith("start,")


def test_a_full_disk_ends_no_run_for_its_log(
    log: RunLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status, lines and TensorBoard are told once; the image is larger than any buffer."""
    log.status("running")
    before = (tmp_path / "status.json").read_text()
    with full_after(10):
        for number in range(20):  # the writer's queue holds ten
            log.image("picture", torch.rand(3, 64, 64), number)
            log.metric("train", {"loss": 1.0}, number)
            log.msg("a line")
            log.status("running", step=number)
        log.close()
    shown = capsys.readouterr()
    warnings = [line for line in shown.out.splitlines() if line.startswith("warning: ")]
    assert {line.split(" could not")[0] for line in warnings} == {
        "warning: status.json", "warning: a line of the log", "warning: the TensorBoard file",
    }  # fmt: skip
    assert len(warnings) == 3
    assert "Traceback" not in shown.err
    assert (tmp_path / "status.json").read_text() == before


def test_a_row_that_cannot_be_written_is_one_line_that_names_the_file(
    log: RunLog, tmp_path: Path
) -> None:
    size = (tmp_path / "metrics.csv").stat().st_size
    with full_after(size), pytest.raises(SaveError, match=r"metrics\.csv could not be written"):
        log.metric("val", {"mean_iu": 0.5}, 0)


def test_a_run_on_a_full_disk_is_refused_in_one_line(tmp_path: Path) -> None:
    run_log = RunLog(tmp_path, is_main=True, progress=False)
    with full_after(0), pytest.raises(SaveError, match="could not be written"):
        run_log.open({})
    run_log.close()


def test_a_name_with_a_line_break_stays_on_one_line(
    log: RunLog, capsys: pytest.CaptureFixture[str]
) -> None:
    log.msg_any_rank("na\nme: 5 frames")
    assert capsys.readouterr().out == "na me: 5 frames\n"
