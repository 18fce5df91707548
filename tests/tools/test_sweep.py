# SPDX-License-Identifier: Apache-2.0
"""The table of a sweep: what differs, scores, endings; and a real sweep through runx."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.setup_local import runx_settings
from tests.program import ROOT, TINY, environment
from tests.reports.chrome import Chrome
from tools import sweep

COMMAND = "cd /logs/x/code; PYTHONPATH= python train.py --lr 0.5 --rmi_loss --set A.B=1 --seed 3"


def make_run(
    folder: Path, flags: dict[str, Any] | None, status: str | None, scores: tuple[float, ...] = ()
) -> Path:
    """The files a run of this ending leaves behind."""
    folder.mkdir(parents=True)
    (folder / "submit_cmd.sh").write_text(COMMAND + "\n")
    if flags is not None:
        (folder / "hparams.json").write_text(json.dumps(flags))
    rows = [f"val,loss,0.5,mean_iu,{x},acc,0.9,epoch,{i},timestamp,1.0" for i, x in
            enumerate(scores)]  # fmt: skip
    if flags is not None:
        text = "\n".join(["start,start/step,0,timestamp,1.0", *rows, "val,loss,0.5,mean_i"])
        (folder / "metrics.csv").write_text(text)
    if status is not None:
        content = {"status": status, "reason": "", "seconds": 75.4, "updated": time.time()}
        content["reason"] = "ValueError: no labels" if status == "failed" else ""
        (folder / "status.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Four runs: finished twice, failed, and refused before it had a log."""
    root = tmp_path / "exp"
    flags = {"lr": 0.1, "rmi_loss": True, "seed": 3, "set": ["A.B=1"], "poly_exp": 1.0}
    make_run(root / "good", {**flags, "result_dir": "/a"}, "done", (0.2, 0.61, 0.55))
    make_run(root / "worse", {**flags, "rmi_loss": False, "result_dir": "/b"}, "done", (0.3,))
    make_run(root / "broken", {**flags, "set": ["A.B=2"]}, "failed")
    make_run(root / "refused", None, None)
    (root / "no run").mkdir()
    (root / "good" / "best_images").mkdir()
    (root / "good" / "best_images" / "index.html").write_text("x")
    return root


def test_best_and_last_scores_order_the_runs(experiment: Path) -> None:
    runs = sweep.read_runs(experiment)
    assert [run.name for run in runs] == ["good", "worse", "broken", "refused"]
    assert (runs[0].best, runs[0].last, runs[2].best) == (0.61, 0.55, None)
    assert [run.status for run in runs] == ["done", "done", "failed", "not started"]
    assert runs[2].reason == "ValueError: no labels"


def test_classifiers_are_compared_by_top_1(experiment: Path) -> None:
    for name, score in (("b0", 0.25), ("b1", 0.5)):
        run = make_run(experiment / "nets" / name, {"arch": name}, "done")
        row = f"val,loss,2.0,top1,{score},top5,0.9,epoch,0,timestamp,1.0"
        (run / "metrics.csv").write_text(f"start,0\n{row}\n")
    runs = sweep.read_runs(experiment / "nets")
    assert [(run.name, run.best) for run in runs] == [("b1", 0.5), ("b0", 0.25)]
    lines = sweep.table(runs).splitlines()
    assert "best top-1  last top-1" in lines[0] and "50.00" in lines[1]
    assert "best mIoU" in sweep.table(sweep.read_runs(experiment))
    assert sweep.main([str(experiment / "nets")]) == 0
    assert "Best top-1 %" in (experiment / "nets" / "sweep.html").read_text()
    mixed = [*runs, *sweep.read_runs(experiment)]
    assert "best mIoU or top-1" in sweep.table(mixed)


def test_only_what_differs_is_a_column(experiment: Path) -> None:
    assert sweep.differing(sweep.read_runs(experiment)) == ["lr", "rmi_loss", "A.B"]


def test_a_refused_run_is_known_by_its_command_line(experiment: Path) -> None:
    refused = sweep.read_run(experiment / "refused")
    assert refused.settings == {"lr": "0.5", "rmi_loss": "true", "A.B": "1", "seed": "3"}
    farm = f"submit_job --gpu 8 --name x --command ' {COMMAND} ' --logdir /logs/x/gcf_log"
    (experiment / "refused" / "submit_cmd.sh").write_text(farm)
    assert sweep.read_run(experiment / "refused").settings == refused.settings


def test_a_killed_run_is_told_from_one_that_runs(experiment: Path) -> None:
    folder = make_run(experiment / "alive", {"lr": 1}, "running", (0.1,))
    assert sweep.read_run(folder).status == "running"
    long_ago = time.time() - 7200
    for path in folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    killed = sweep.read_run(folder)
    assert killed.status == "silent" and "2:00 h" in killed.reason


def test_printed_table_has_one_line_a_run(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.main([str(experiment)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "lr", "rmi_loss", "A.B", "best", "mIoU", "last", "mIoU",
                                "time", "status"]  # fmt: skip
    assert lines[1].split() == ["good", "0.1", "true", "1", "61.00", "55.00", "1:15", "min", "done"]
    assert lines[3].endswith("failed: ValueError: no labels")
    assert lines[-1] == f"page: {experiment}/sweep.html"


def test_page_links_the_reports_that_exist(experiment: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "out.html"
    assert sweep.main([str(experiment), "--out", str(page)]) == 0
    text = page.read_text()
    assert text.count('href="../exp/') == 1
    assert "61.00 %" in text and "ValueError: no labels" in text


@pytest.mark.parametrize("name", ["absent", "no run"])
def test_a_folder_without_runs_is_one_line(
    experiment: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.main([str(experiment / name)]) == 2
    assert capsys.readouterr().out.startswith("error: ")


@pytest.mark.parametrize("argv", [["--ou", "x"], ["--out", "{exp}/good/hparams.json/page.html"]])
def test_a_page_that_can_not_be_written_is_one_line(
    experiment: Path, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.main([str(experiment), *(text.format(exp=experiment) for text in argv)]) == 2
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == shown.err.strip()
    assert shown.err.startswith("error: ") and "--ou" in shown.err


def test_a_damaged_run_is_shown_all_the_same(experiment: Path) -> None:
    (experiment / "good/status.json").write_text('{"status": "running", "updated": null}')
    (experiment / "good/run.json").write_text('{"flags": [1]}')
    found = {run.name: run for run in sweep.read_runs(experiment)}
    assert found["good"].status == "running" and found["good"].settings["seed"] == "3"
    assert found["good"].reason == "run.json is damaged"


DEEP = "[" * 100_000 + "]" * 100_000
WRONG = ("[]", "null", '"text"', "3", "{", DEEP, '{"flags": ' + DEEP + "}", "\0", "\ud800")


@pytest.mark.parametrize("name", ["status.json", "run.json", "hparams.json", "metrics.csv"])
@pytest.mark.parametrize("content", [*WRONG, None])
def test_a_file_of_any_content_costs_its_run_one_line(
    experiment: Path, name: str, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = experiment / "good" / name
    path.unlink(missing_ok=True)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
    assert sweep.main([str(experiment)]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 1 + 4 + 1, "a head, the runs, the page"
    lines = [line for line in shown.out.splitlines() if line.startswith("good")]
    assert len(lines) == 1
    if name.endswith(".json"):
        assert f"{name} is damaged" in lines[0] or name == "hparams.json"


@pytest.mark.parametrize(
    "status",
    [
        {"status": "running", "updated": "yesterday"},
        {"status": "running", "updated": [1], "seconds": {}},
        {"status": ["done"], "reason": None},
        {"status": "done", "seconds": "long"},
        {"status": "failed", "reason": {"a": "b"}},
        {"status": "failed", "reason": "two\nlines \ud800", "seconds": 10**400},
        {"status": None},
    ],
)
@pytest.mark.parametrize(
    "flags", [{"set": 3, "lr": {"a": [1]}}, {"set": [None, ["a"]], "lr": [[1], None]}, {"set": ""}]
)
def test_entries_of_wrong_types_cost_one_line(
    experiment: Path, status: dict[str, Any], flags: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (experiment / "good/status.json").write_text(json.dumps(status))
    (experiment / "good/run.json").write_text(json.dumps({"flags": flags}))
    assert sweep.main([str(experiment)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("good")]) == 1
    assert len(lines) == 1 + 4 + 1


def test_an_evaluation_in_the_file_of_a_training_is_not_its_score(experiment: Path) -> None:
    """Rows of earlier versions, which evaluated into the directory of a training."""
    rows = [
        "start,start/step,0,timestamp,1.0",
        "val,loss,0.5,mean_iu,0.086,acc,0.9,lr,0.01,epoch,0,timestamp,1.0",
        "val,mean_iu,0.3986,acc,0.9,loss,0.5,epoch,0,timestamp,2.0",
        "val,loss,0.5,mean_iu,nan,acc,nan,lr,0.01,epoch,1,timestamp,3.0",
    ]
    (experiment / "good/metrics.csv").write_text("\n".join(rows) + "\n")
    run = sweep.read_run(experiment / "good")
    assert (run.best, run.last) == (0.086, 0.086)


def test_page_sorts_by_any_column_and_fits(chrome: Chrome, experiment: Path) -> None:
    sweep.main([str(experiment)])
    chrome.open(experiment / "sweep.html", 400)
    assert chrome.run("document.documentElement.scrollWidth") <= 400
    first = "[...document.querySelectorAll('#runs tbody tr')].map(r => r.cells[0].textContent)"
    heads = "document.querySelectorAll('#runs thead button')"
    chrome.run(f"{heads}[5].click()")  # last mIoU: best first
    assert chrome.run(first)[:2] == ["good", "worse"]
    chrome.run(f"{heads}[5].click()")  # then the other way round, those without one stay last
    assert chrome.run(first)[:2] == ["worse", "good"]
    chrome.run(f"{heads}[0].click()")
    assert chrome.run(first) == ["broken", "good", "refused", "worse"]
    assert chrome.problems == []


@pytest.mark.slow
def test_a_real_sweep_of_two_rates_and_two_losses(street_root: Path, tmp_path: Path) -> None:
    """Four runs through runx, a fifth that fails when the network is built, a sixth refused."""
    settings = [item for item in TINY if "." in item and "=" in item]
    shared = {
        "dataset": "synthetic", "arch": "ocrnet.HRNet_Mscale", "segattn_bot_ch": 8,
        "set": " --set ".join([*settings, f"DATASET.SYNTHETIC_DIR={street_root}"]),
        "class_uniform_pct": 0, "crop_size": 64, "bs_trn": 4, "max_epoch": 1, "num_workers": 0,
        "result_dir": "LOGDIR",
    }  # fmt: skip
    recipe = tmp_path / "grid.yml"
    entries = [
        {**shared, "lr": [0.01, 0.05], "rmi_loss": [True, False]},
        {"lr": 0.01, "rmi_loss": False, "arch": "deepv3.DeepV3PlusR50"},
        {"lr": -1, "rmi_loss": False},
    ]
    recipe.write_text(yaml.safe_dump({"CMD": "python train.py", "HPARAMS": entries}))
    (tmp_path / "runx.yml").write_text(yaml.safe_dump(runx_settings(tmp_path / "logs")))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    line = ["-m", "runx.runx", str(recipe), "-i", "-c", str(tmp_path / "runx.yml")]
    done = subprocess.run(
        [sys.executable, *line], cwd=ROOT, env=environment(PATH=path), capture_output=True,
        text=True, check=True, timeout=280,
    )  # fmt: skip
    runs = sweep.read_runs(tmp_path / "logs" / "grid")
    shown = done.stdout + done.stderr
    assert [run.status for run in runs[:4]] == ["done"] * 4, shown
    endings = {run.status: run.reason for run in runs[4:]}
    assert set(endings) == {"failed", "not started"}, shown
    assert "segattn_bot_ch=8 has no effect on deepv3.DeepV3PlusR50" in endings["failed"]
    tried = {(run.settings["lr"], run.settings["rmi_loss"]) for run in runs[:4]}
    assert tried == {(lr, rmi) for lr in ("0.01", "0.05") for rmi in ("true", sweep.MISSING)}
    assert all(run.best == run.last and run.seconds for run in runs[:4])
    assert set(sweep.differing(runs[:4])) == {"lr", "rmi_loss"}
    assert sweep.main([str(tmp_path / "logs" / "grid")]) == 0
    assert (tmp_path / "logs" / "grid" / "sweep.html").exists()


@pytest.mark.parametrize("seconds", [-1.0, 1e300, "7", True])
def test_a_duration_that_no_run_can_have_is_left_out(tmp_path: Path, seconds: object) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "status.json").write_text(json.dumps({"status": "done", "seconds": seconds}))
    assert sweep.read_run(tmp_path / "a").seconds is None


def test_the_table_is_printed_where_output_is_ascii(tmp_path: Path) -> None:
    (tmp_path / "\u00e9t\u00e9").mkdir()
    (tmp_path / "\u00e9t\u00e9" / "status.json").write_text('{"status": "done"}')
    result = subprocess.run(
        [sys.executable, "-m", "tools.sweep", str(tmp_path)],
        env={**environment(), "PYTHONIOENCODING": "ascii"}, cwd=ROOT, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    assert "\\xe9t\\xe9" in result.stdout


def test_a_page_that_cannot_be_written_is_named_as_it_was_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "status.json").write_text('{"status": "done"}')
    assert sweep.main([str(tmp_path), "--out", "/proc/page.html"]) == 2
    assert "error: /proc/page.html: " in capsys.readouterr().out


def test_runs_that_differ_by_their_seed_alone_have_a_mean_and_a_deviation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for rate, seed, scores in (
        (0.1, 1, (0.5, 0.6, 0.55)), (0.1, 2, (0.62, 0.59)), (0.1, 3, (0.64,)), (0.2, 1, (0.7,)),
    ):  # fmt: skip
        flags = {"lr": rate, "seed": seed, "result_dir": f"/{rate}{seed}"}
        make_run(tmp_path / f"{rate} {seed}", flags, "done", scores)
    make_run(tmp_path / "killed", {"lr": 0.1, "seed": 4}, "failed", (0.01,))
    make_run(tmp_path / "unscored", {"lr": 0.1, "seed": 5}, "done")
    one, three = sweep.seed_groups(sweep.read_runs(tmp_path))
    assert (len(one.runs), one.spread()) == (1, (0.7, None))
    assert [run.settings["seed"] for run in three.runs] == ["3", "2", "1"]
    assert three.spread() == (pytest.approx(0.62), pytest.approx(0.02))
    assert three.spread(last=True) == (pytest.approx(1.78 / 3), pytest.approx(0.0450925))
    assert sweep.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[8].split() == ["n", "lr", "best", "mIoU", "std", "last", "mIoU", "std"]
    assert lines[9].split() == ["1", "0.2", "70.00", sweep.MISSING, "70.00", sweep.MISSING]
    assert lines[10].split() == ["3", "0.1", "62.00", "2.00", "59.33", "4.51"]
    page = (tmp_path / "sweep.html").read_text()
    assert "Over seeds" in page and 'title="0.1 3, 0.1 2, 0.1 1"' in page


def test_without_a_second_seed_there_is_no_table_of_seeds(experiment: Path) -> None:
    assert sweep.seed_groups(sweep.read_runs(experiment)) == []
    assert sweep.main([str(experiment)]) == 0
    assert "Over seeds" not in (experiment / "sweep.html").read_text()
