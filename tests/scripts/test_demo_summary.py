# SPDX-License-Identifier: Apache-2.0
"""The last step of the demo: it must not pass unless the newest run did what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import demo_summary


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a good demo leaves behind; returns the experiment directory."""
    monkeypatch.setattr(demo_summary, "ROOT", tmp_path)
    (tmp_path / ".runx").write_text(f"LOGROOT: {tmp_path}/logs\n")
    experiment = tmp_path / "logs" / "demo"
    for name in ("train_calm-fox_1", "eval_shy-owl_1"):
        (experiment / name / "code").mkdir(parents=True)
        (experiment / name / "status.json").write_text('{"status": "done", "reason": ""}')
    write_results(experiment, "../../train_calm-fox_1/best_checkpoint_ep7.pth", [[60, 0], [5, 35]])
    evaluation = experiment / "eval_shy-owl_1"
    (evaluation / "best_images").mkdir()
    (evaluation / "best_images" / "index.html").write_text("<p>")
    (evaluation / "submission.zip").write_text("zip")
    return experiment


def write_results(experiment: Path, snapshot: str, matrix: list[list[int]]) -> None:
    results = {
        "confusion": matrix,
        "classes": [{"name": "road"}, {"name": "sky"}],
        "protocol": {"snapshot": snapshot},
    }
    (experiment / "eval_shy-owl_1" / "results.json").write_text(json.dumps(results))


def test_a_good_demo_ends_with_table_report_and_score(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo_summary.main() == 0
    text = capsys.readouterr().out
    assert "sky" in text
    assert f"{demo}/eval_shy-owl_1/best_images/index.html" in text
    assert "mIoU        89.90" in text  # (60 / 65 + 35 / 40) / 2
    assert "constant prediction has 30.00" in text  # 60 % of the pixels, two classes


@pytest.mark.parametrize("run", ["train_calm-fox_1", "eval_shy-owl_1"])
def test_a_failed_run_fails_the_demo(
    demo: Path, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (demo / run / "status.json").write_text('{"status": "failed", "reason": "disk full"}')
    assert demo_summary.main() == 3
    assert "failed: disk full" in capsys.readouterr().out


def test_an_older_checkpoint_fails_the_demo(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(demo, "../../train_old-cat_0/best_checkpoint_ep7.pth", [[60, 0], [5, 35]])
    assert demo_summary.main() == 3
    assert "not of train_calm-fox_1" in capsys.readouterr().out


def test_a_constant_prediction_fails_the_demo(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(demo, "../../train_calm-fox_1/best_checkpoint_ep7.pth", [[30, 0], [70, 0]])
    assert demo_summary.main() == 3
    assert "is below" in capsys.readouterr().out


def test_a_missing_file_fails_the_demo(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (demo / "eval_shy-owl_1" / "submission.zip").unlink()
    assert demo_summary.main() == 3
    assert "submission.zip missing" in capsys.readouterr().out
