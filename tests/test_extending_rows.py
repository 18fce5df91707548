# SPDX-License-Identifier: Apache-2.0
"""A loss term, an optimiser, a schedule, a sink and a metric, added to a copy of the tree as
docs/extending.md says, work together in one training and one evaluation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.extending import copy_tree, follow, run_in
from tests.program import ROOT, TINY, assert_one_line_error, street_flags

pytestmark = pytest.mark.slow
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
TOUCHED = {  # a new file where there is new code, the file of the row, that of the setting
    "A loss term": ["loss/entropy.py", "assembly/objective.py", "settings/loss.py"],
    "An optimiser": ["settings/kinds.py"],
    "A schedule": ["engine/triangle.py", "settings/kinds.py", "settings/schedule.py"],
    "A sink": ["reports/class_list.py", "assembly/sinks.py", "settings/outputs.py"],
    "A metric": ["metrics/presence.py", "assembly/metrics.py", "settings/outputs.py"],
}
RATES = """\
from assembly.rates import build_schedule
from settings import read_settings

by_epoch = ["--lr_schedule", "triangle", "--max_epoch", "8", "--triangles", "2"]
for told in (by_epoch, [*by_epoch, "--lr_by", "iter"]):
    rate = build_schedule(read_settings(told), 2)
    print([rate(2 * epoch, epoch, 1.0) for epoch in (0, 1, 3, 4, 8)])
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    """A tree with all five, and the files that each of them took."""
    tree = copy_tree(tmp_path_factory.mktemp("rows") / "tree")
    return tree, {title: follow(PAGE, title, tree) for title in TOUCHED}


@pytest.fixture(scope="module")
def trained(
    extended: tuple[Path, dict[str, list[str]]],
    street_root: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The run directory of two epochs of four steps in the extended tree."""
    directory = tmp_path_factory.mktemp("trained")
    result = run_in(
        extended[0], "train.py", *TINY, *street_flags(street_root, directory),
        "--crop_size", "64,64", "--bs_trn", "2", "--class_uniform_tile", "64", "--max_epoch", "2",
        "--optimizer", "rmsprop", "--lr", "0.001", "--lr_schedule", "triangle", "--triangles", "1",
        "--entropy_wt", "0.5",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return directory


def test_each_takes_a_file_a_row_and_its_setting(
    extended: tuple[Path, dict[str, list[str]]],
) -> None:
    assert extended[1] == TOUCHED


def test_the_schedule_is_followed_by_epoch_and_by_iteration(
    extended: tuple[Path, dict[str, list[str]]],
) -> None:
    result = run_in(extended[0], "-c", RATES)
    assert result.stdout.splitlines() == ["[1.0, 0.75, 0.25, 1.0, 0.0]"] * 2, result.stderr


def test_settings_of_other_rows_are_refused(extended: tuple[Path, dict[str, list[str]]]) -> None:
    for given, text in (
        (["--triangles", "3"], "--triangles has no effect without --lr_schedule triangle"),
        (["--optimizer", "rmsprop", "--betas", "0.8,0.9"], "--optimizer adam, radam or adamw"),
        (["--eval", "val", "--no_metrics", "--eval_presence"], "--eval_presence has no effect"),
    ):
        assert_one_line_error(run_in(extended[0], "train.py", *given), text)


def test_the_new_optimiser_schedule_and_loss_train(trained: Path) -> None:
    log = (trained / "logging.log").read_text(encoding="utf-8")
    assert re.search(r" entropy \d\.\d+", log)
    rows = (trained / "metrics.csv").read_text(encoding="utf-8").splitlines()
    rates = [re.findall(r",lr,([^,]+),", row) for row in rows if row.startswith("val,")]
    assert rates == [["0.001"], ["0.0005"]]  # of two epochs, in one fall
    flags = json.loads((trained / "run.json").read_text(encoding="utf-8"))["flags"]
    assert (flags["optimizer"], flags["lr_schedule"], flags["entropy_wt"]) == (
        "rmsprop", "triangle", 0.5,
    )  # fmt: skip


def test_the_new_sink_and_metric_see_an_evaluation(
    extended: tuple[Path, dict[str, list[str]]], trained: Path, tmp_path: Path
) -> None:
    result = run_in(
        extended[0], "eval.py", "--from_run", str(trained), "--num_workers", "0",
        "--dump_class_list", "--eval_presence", "--dump_all_images", "--result_dir", str(tmp_path),
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    names = [row["name"] for row in results["classes"]]
    files = list((tmp_path / "classes").rglob("*.txt"))
    assert len(files) == results["counts"]["images"] == 4
    assert all(set(file.read_text(encoding="utf-8").split("\n")) <= {*names, ""} for file in files)
    labelled, found = zip(*results["presence"]["counts"], strict=True)
    scores = [f / n if n else None for n, f in zip(labelled, found, strict=True)]
    assert [row["presence"] for row in results["classes"]] == pytest.approx(scores)
    known = [score for score in scores if score is not None]
    assert results["metrics"]["presence"] == pytest.approx(sum(known) / len(known))
    assert re.search(r"^presence +%$", result.stdout, re.MULTILINE)
    page = (tmp_path / "best_images" / "index.html").read_text(encoding="utf-8")
    assert "presence %" in page
