# SPDX-License-Identifier: Apache-2.0
"""reports.run: a training as a page, in a real browser, while it goes on and after it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboardX import SummaryWriter

from reports.run import main
from tests.reports.chrome import Chrome

CELLS = "[...document.querySelectorAll('#classes tbody tr')].map((row) => row.innerText)"
FIGURES = "[...document.querySelectorAll('.figure')].map((each) => each.innerText)"


def a_run(directory: Path, status: str = "done", val_iters: int | None = None) -> Path:
    """The files of a training of three epochs, two classes, one of them hard."""
    run = directory / "my run"
    with SummaryWriter(str(run)) as writer:
        for step in range(1, 31):
            for name, value in {"loss": 3 / step, "main": 2 / step, "lr": 0.01, "lr_head": 0.1,
                                "images_per_s": 20 + step % 3, "memory_gib": 1.5,
                                "skipped": step // 20}.items():  # fmt: skip
                writer.add_scalar(f"train/{name}", value, step)
        for epoch, score in enumerate((0.2, 0.5, 0.4)):
            for name, value in {"val/mean_iu": score, "val/acc": 0.9, "val/loss": 2 - score,
                                "val/lr": 0.01, "iou/road": score + 0.3,
                                "iou/<b>pole": score / 10}.items():  # fmt: skip
                writer.add_scalar(name, value, epoch)
            writer.add_image("val/street", np.full((3, 40, 80), 0.5), epoch)
    facts = {"flags": {"arch": "ocrnet.HRNet", "dataset": "camvid", "lr": 0.01,
                       "crop_size": [64, 96], "val_iters": val_iters, "resume": None},
             "given": ["lr", "crop_size"], "versions": {"torch": "2.14"}, "git": "abc",
             "world_size": 2}  # fmt: skip
    (run / "run.json").write_text(json.dumps(facts))
    state = {"status": status, "reason": "", "epoch": 3, "iteration": 30, "seconds": 90.0}
    (run / "status.json").write_text(json.dumps(state))
    return run


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_the_page_shows_curves_classes_and_settings(
    tmp_path: Path, width: int, dark: bool, chrome: Chrome
) -> None:
    run = a_run(tmp_path)
    assert main([str(run), "--png", str(tmp_path / "curves.png")]) == 0
    chrome.open(run / "run.html", width, dark=dark)
    assert chrome.problems == []
    assert chrome.run("document.documentElement.scrollWidth") <= width
    figures = chrome.run(FIGURES)
    assert figures[0].split("\n")[0] == "done"
    assert "50.00 %" in figures[1] and "best mean IoU, epoch 1" in figures[1]
    assert "40.00 %" in figures[2] and "20\nimages per second" in figures
    titles = chrome.run("[...document.querySelectorAll('.plots h2')].map((h) => h.textContent)")
    assert titles == [
        "Scores, %", "Training loss", "Validation loss", "Classes, IoU %", "Learning rate",
        "Images per second", "Memory, GiB", "Steps skipped",
    ]  # fmt: skip
    rows = [row.split() for row in chrome.run(CELLS)]
    assert rows == [["_b_pole", "4.00", "5.00", "1"], ["road", "70.00", "80.00", "1"]]
    curves = chrome.run(
        "[...document.querySelectorAll('.plots section')].map("
        "(each) => each.querySelectorAll('polyline').length)"
    )
    assert curves == [2, 2, 1, 2, 2, 1, 1, 1]
    image = "document.querySelector('.strip img')"
    assert chrome.run(f"[{image}.naturalWidth, {image}.naturalHeight]") == [80, 40]
    text = chrome.run("document.body.innerText")
    assert "--crop_size\n64,96" in text and "mean IoU 40%" in text
    assert {url.partition(":")[0] for url in chrome.requests} <= {"file", "data"}
    assert len(set(np.asarray(Image.open(tmp_path / "curves.png")).reshape(-1, 3).sum(1))) > 20


@pytest.mark.slow
def test_a_page_of_a_running_training_loads_itself_until_it_ends(tmp_path: Path) -> None:
    run = a_run(tmp_path, status="running", val_iters=10)
    page = run / "run.html"

    def end() -> None:
        while not page.exists():
            threading.Event().wait(0.02)
        (tmp_path / "first.html").write_text(page.read_text())
        (run / "status.json").write_text(json.dumps({"status": "failed", "reason": "no <room>"}))

    thread = threading.Thread(target=end)
    thread.start()
    assert main([str(run), "--watch", "1"]) == 0
    thread.join()
    first, last = (tmp_path / "first.html").read_text(), page.read_text()
    assert "setTimeout(() => location.reload(), 1000)" in first and "over steps" in first
    assert "location.reload" not in last and "no &lt;room&gt;" in last and "failed" in last


def test_what_is_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "its --tracker had no tensorboard" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    run = a_run(tmp_path)
    assert main([str(run), "--watch", "0"]) == 2
    assert main([str(run), "--out", str(run / "run.json" / "x.html")]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("error: ") for line in lines) and len(lines) == 2


def test_damaged_files_of_a_run_are_named_on_its_page(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    (run / "run.json").write_text("{")
    (run / "status.json").unlink()
    assert main([str(run)]) == 0
    page = (run / "run.html").read_text()
    assert "run.json is missing or damaged" in page and "status.json is missing" in page
    assert "Training loss" in page
